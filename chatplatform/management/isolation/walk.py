"""Walks routes: each first as its own tenant, then with what another tenant has."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings

from chatplatform.isolation import TENANTS_OWN, Call, Planted, Who
from chatplatform.management.isolation.caller import Answer, Caller
from chatplatform.management.isolation.surface import Route

PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>|\(\?P<(\w+)>[^)]*\)")
PLANTED = re.compile(r"\{(\w+)\}")
DOORS = ("/console/sign-in", "/console/second-factor", "/admin/login/")
NOT_A_TENANTS = {Who.STAFF, Who.LEAVING_STAFF, Who.PLATFORM}


@dataclass(frozen=True, slots=True)
class Trial:
    """One request: whose host, identifiers and credentials. `first`: whose the first identifier is, if not theirs."""

    what: str
    host: Planted
    ids: Planted
    whose: Planted
    whos: tuple[Who, ...]
    first: Planted | None = None
    named: str = ""  # X-Tenant-ID


@dataclass
class Findings:
    """What is wrong, and how much was asked."""

    wrong: list[dict[str, str]] = field(default_factory=list)
    asked: int = 0

    def add(self, where: object, what: str) -> None:
        self.wrong.append({"where": str(where), "what": what})


class Walker:
    """Walks the routes for `own`, who has nothing to do with what is `other`'s."""

    def __init__(self, caller: Caller, own: Planted, other: Planted, findings: Findings) -> None:
        self.caller, self.own, self.other, self.findings = caller, own, other, findings

    async def as_itself(self, route: Route, call: Call) -> None:
        """It must work, lead to what was planted, and to nothing of the other's."""
        trial = Trial("as itself", self.own, self.own, self.own, (call.who,))
        answer = await self._ask(route, call, trial)
        if answer.status != call.status or (leads_away(answer) and not call.open):
            self._wrong(
                route, call, trial, f"answers {answer.status}, not {call.status}: {answer.text[-200:]}"
            )
        if call.shows and self.own.canary not in answer.text:
            self._wrong(route, call, trial, "does not show what was planted")
        if not call.everybody:
            self._check_clean(route, call, trial, answer)

    async def as_another(self, route: Route, call: Call) -> None:
        """It must be refused, whatever of the other's it is tried with."""
        for trial in self._trials(route, call):
            answer = await self._ask(route, call, trial)
            self._check_clean(route, call, trial, answer)
            refused = answer.status >= 400 or leads_away(answer)
            if answer.status >= 500 or not (refused or call.open):
                self._wrong(route, call, trial, f"is not refused: {answer.status}")

    def _trials(self, route: Route, call: Call) -> Iterator[Trial]:
        own, other, whos = self.own, self.other, (call.who,)
        names = self._of_tenants(route, call)
        if call.who in NOT_A_TENANTS:
            yield Trial("with a tenant's credentials", own, own, own, TENANTS_OWN)
            if len(names) > 1:
                yield Trial("with identifiers of two", own, other, own, whos, first=own)
            return
        if call.who is not Who.NOBODY:
            yield Trial("with nobody's credentials", other, other, other, ())
        if names:
            yield Trial("with the other's identifiers", own, other, own, whos)
        if len(names) > 1:
            yield Trial("with identifiers of both", own, other, own, whos, first=own)
        if not route.platform:
            yield Trial("at the other's host", other, own, own, whos)
            if call.who is not Who.NOBODY:
                yield Trial("at the other's host, with its identifiers", other, other, own, whos)
            if len(names) > 1:
                yield Trial(
                    "at the other's host, with identifiers of both", other, own, own, whos, first=other
                )
        if call.who is Who.KEY:
            yield Trial("in the other's name", own, own, own, whos, named=other.ref.slug)

    def _of_tenants(self, route: Route, call: Call) -> list[str]:
        """The planted identifiers in a call that are not the same for both, those of its path first."""
        path = [call.ids.get(name, name) for name in parameters(route.pattern)]
        used = [*path, *PLANTED.findall(f"{call.body} {call.query} {call.cookie}")]
        own, other = self.own.known(), self.other.known()
        return [name for name in dict.fromkeys(used) if name != "canary" and own[name] != other[name]]

    async def _ask(self, route: Route, call: Call, trial: Trial) -> Answer:
        self.findings.asked += 1
        ids = {**trial.ids.known(), "canary": self.own.canary}
        if trial.first:
            first = self._of_tenants(route, call)[0]
            ids[first] = trial.first.known()[first]
        path = {**ids, **{name: ids[planted] for name, planted in call.ids.items()}}
        headers = {"X-Tenant-ID": trial.named} if trial.named else {}
        given = [trial.whose.credentials[who] for who in trial.whos]
        if call.cookie:
            given.append({"Cookie": call.cookie.format_map(ids)})
        for name, value in (one for some in given for one in some.items()):
            headers[name] = f"{headers[name]}; {value}" if name == "Cookie" and name in headers else value
        return await self.caller.http(
            settings.PLATFORM_DOMAIN if route.platform else host_of(trial.host),
            call.method,
            "/" + PARAMETER.sub(lambda found: path[found[1] or found[2]], _plain(route.pattern)),
            call.query.format_map(ids),
            headers,
            None if call.body is None else filled(call.body, ids),
        )

    def _check_clean(self, route: Route, call: Call, trial: Trial, answer: Answer) -> None:
        if self.other.canary in answer.text:
            self._wrong(route, call, trial, "SHOWS WHAT IS THE OTHER'S")
        tenants_only = (
            trial.whos == TENANTS_OWN and "canary" not in call.query
        )  # which comes back in an address
        if tenants_only and self.own.canary in answer.text:
            self._wrong(route, call, trial, "shows to a tenant what is for staff")

    def _wrong(self, route: Route, call: Call, trial: Trial, what: str) -> None:
        self.findings.add(f"{call.method} {route}", f"by {call.who}, {trial.what}: {what}")


def leads_away(answer: Answer) -> bool:
    """Whether it sends somebody to where one signs in, or says that nothing was done."""
    path, _, query = answer.headers.get("location", "").partition("?")
    return "done=not-" in query or (path in DOORS and "done=" not in query)


def host_of(tenant: Planted) -> str:
    """Where a tenant's pages are."""
    return f"{tenant.ref.slug}.{settings.PLATFORM_DOMAIN}"


def parameters(pattern: str) -> list[str]:
    """The names of a route's parameters, in their order."""
    return [one or other for one, other in PARAMETER.findall(pattern)]


def filled(value: Any, ids: Mapping[str, str]) -> Any:
    """A body with the identifiers in it."""
    if isinstance(value, str):
        return PLANTED.sub(lambda found: ids[found[1]], value)
    if isinstance(value, Mapping):
        return {name: filled(one, ids) for name, one in value.items()}
    return value


def _plain(pattern: str) -> str:
    return pattern.replace("^", "").replace("$", "")
