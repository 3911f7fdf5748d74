"""The whole check: what there is, compared with what the apps know how to walk; then the walk itself."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any

from django.core import mail
from django.test.utils import override_settings

from billing import isolation as billing
from chatplatform import jobs, tenancy
from chatplatform.celery import app
from chatplatform.isolation import Call, Command, Elsewhere, Job, Planted, Walks, Who
from chatplatform.management.isolation import roof, sockets, stored, surface, work
from chatplatform.management.isolation.caller import Caller
from chatplatform.management.isolation.scene import Scene
from chatplatform.management.isolation.surface import API, Route
from chatplatform.management.isolation.walk import Findings, Walker
from conversations import isolation as conversations
from tenants import isolation as tenants
from tenants.models import IsolationReport

WALKS: tuple[Walks, ...] = (tenants.WALKS, conversations.WALKS, billing.WALKS, roof.WALKS)
# Mails stay here, and the sign-in provider that is trusted is on this machine.
HERE = {"EMAIL_BACKEND": "django.core.mail.backends.locmem.EmailBackend", "ALLOW_PRIVATE_KEY_SERVERS": True}
UNTAUGHT = "nobody has taught the check how to walk it"
GONE = "is in a table of the check, but not in the platform"


@dataclass
class Check:
    """One run. `say` tells a person how far it is."""

    say: Callable[[str], None] = lambda text: None
    walks: tuple[Walks, ...] = WALKS
    routes: Callable[[], list[Route]] = surface.routes
    findings: Findings = field(default_factory=Findings)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)

    def run(self) -> dict[str, Any]:
        """The report, which is kept. What else the check makes is removed again, whatever happens."""
        with tenancy.in_platform():
            kept = IsolationReport.objects.create()
        kept.report = self._run()
        kept.ok = kept.report["ok"]
        with tenancy.in_platform():
            kept.save()
        return dict(kept.report)

    def _run(self) -> dict[str, Any]:
        began = time.monotonic()
        scene, workers = Scene(self.walks), work.Workers(self.findings)
        logging.disable(logging.WARNING)  # hundreds of refusals, all of them wanted
        with override_settings(**HERE), jobs.taken_by(workers.take):
            try:
                self.say("Making two tenants")
                scene.make()
                workers.finish()
                self._walk_all(scene, workers)
            finally:
                self.say("Removing them")
                workers.finish()
                scene.remove()
                logging.disable(logging.NOTSET)
        self._look_for_remains(scene)
        return {
            "ok": not self.findings.wrong,
            "seconds": round(time.monotonic() - began, 1),
            "requests": self.findings.asked,
            "walked": self.counts,
            "elsewhere": self._elsewhere(),
            "findings": self.findings.wrong,
        }

    def _walk_all(self, scene: Scene, workers: work.Workers) -> None:
        own, other = scene.own, scene.other
        sent = len(getattr(mail, "outbox", ()))
        self.say("Calling every route")
        Context().run(self._serve, own, other, workers)  # as in a server: no tenant is entered for it
        workers.finish()
        self.say("Running every task, command and search")
        self._walk_tasks(own, other)
        workers.finish()
        self._walk_commands(own, other)
        self._walk_searches(own, other)
        workers.finish()
        self.say("Looking through what is left")
        for message in mail.outbox[sent:]:
            if own.canary in str(message.message()) and other.canary in str(message.message()):
                self.findings.add("mail", f"{message.subject!r} holds what is of both")
        self._look_through_valkey(own, other)
        for column in surface.sealed():
            self._count("sealed columns", 1)
            if wrong := stored.opened_by_others(column, own, other):
                self.findings.add(f"column {column.place.decode()}", wrong)
        for one in scene.planted:
            for table in stored.foreign_rights(one):
                self.findings.add(f"table {table}", "a tenant's role may use it, and it is not its own")

    def _serve(self, own: Planted, other: Planted, workers: work.Workers) -> None:
        with jobs.taken_by(workers.take):
            asyncio.run(self._walk_routes(own, other))

    # --- Routes and sockets -----------------------------------------------------------------------------------
    async def _walk_routes(self, own: Planted, other: Planted) -> None:
        from chatplatform.asgi import application

        caller = Caller(application)
        here, there = (Walker(caller, *pair, self.findings) for pair in ((own, other), (other, own)))
        routes = self._calls(self.routes())
        # The other first, so that whatever is kept of its answers is there to be shown to somebody else.
        for route, call in routes:
            if call.method == "GET" and call.who not in (Who.LEAVING_MEMBER, Who.LEAVING_STAFF):
                await there.as_itself(route, call)
        for route, call in routes:
            if not (route.platform and route.of_api and call.method != "GET"):  # done at its own host
                await here.as_itself(route, call)
        await self._walk_sockets(caller, own, other)
        for open_ones in (True, False):
            before = {} if open_ones else await asyncio.to_thread(stored.state_of, other)
            for route, call in routes:
                if call.open is open_ones:
                    await here.as_another(route, call)
        self._compare(before, await asyncio.to_thread(stored.state_of, other))

    def _calls(self, found: Iterable[Route]) -> list[tuple[Route, Call]]:
        """Each route with its calls, in the order of the tables. A visitor or member has no host but the tenant's."""
        by_route = {(route.platform, route.pattern): route for route in found}
        known: dict[tuple[bool, str], tuple[Call, ...]] = {}
        for walks in self.walks:
            api = {f"{API}{pattern}": calls for pattern, calls in walks.api.items()}
            known |= {(False, pattern): calls for pattern, calls in {**api, **walks.pages}.items()}
            of_keys = {
                pattern: tuple(call for call in calls if call.who not in (Who.VISITOR, Who.MEMBER))
                for pattern, calls in api.items()
            }
            known |= {(True, pattern): calls for pattern, calls in {**of_keys, **walks.staff}.items()}
        self._compare_tables("routes", by_route, known, lambda key: str(by_route.get(key, key[1])))
        for key, route in by_route.items():
            missing = (route.methods or frozenset()) - {call.method for call in known.get(key, ())}
            if missing and key in known:
                self.findings.add(route, f"{UNTAUGHT}: {', '.join(sorted(missing))}")
        return [(by_route[key], call) for key, calls in known.items() if key in by_route for call in calls]

    def _compare(self, before: Mapping[str, str], after: Mapping[str, str]) -> None:
        for table in sorted(set(before) | set(after)):
            if before.get(table) != after.get(table):
                self.findings.add(f"table {table}", "the other's rows were changed by somebody who is not it")

    async def _walk_sockets(self, caller: Caller, own: Planted, other: Planted) -> None:
        known = {pattern for walks in self.walks for pattern in walks.sockets}
        self._compare_tables("sockets", dict.fromkeys(surface.sockets()), dict.fromkeys(known), str)
        await sockets.walk(caller, own, other, self.findings)

    # --- Tasks, commands, searches, keys ----------------------------------------------------------------------
    def _walk_tasks(self, own: Planted, other: Planted) -> None:
        known = {name: job for walks in self.walks for name, job in walks.tasks.items()}
        found = surface.tasks(app)
        self._compare_tables("tasks", found, known, str)
        before = stored.state_of(other)
        for name, job in known.items():
            if name in found and isinstance(job, Job):
                work.walk(name, found[name], job, own, other, self.findings)
        self._compare(before, stored.state_of(other))

    def _walk_commands(self, own: Planted, other: Planted) -> None:
        known = {name: how for walks in self.walks for name, how in walks.commands.items()}
        self._compare_tables("commands", dict.fromkeys(surface.commands()), known, str)
        own.ids["rotated_key_id"] = own.ids["key_id"]
        before = stored.state_of(other)
        for name, how in known.items():
            for one in how if isinstance(how, tuple) else (how,):
                if isinstance(one, Command):
                    work.walk_command(name, one, own, other, self.findings)
        self._compare(before, stored.state_of(other))

    def _walk_searches(self, own: Planted, other: Planted) -> None:
        known = {model: search for walks in self.walks for model, search in walks.searches.items()}
        self._compare_tables("searches", dict.fromkeys(surface.searched_models()), known, str)
        for model, search in known.items():
            for question in ("", own.canary, other.canary):
                with tenancy.in_tenant(own.ref):
                    found = search(question)
                if own.canary not in found:
                    self.findings.add(f"search {model}", "does not find what was planted")
                if other.canary in found:
                    self.findings.add(f"search {model}", "FINDS WHAT IS THE OTHER'S")

    def _look_through_valkey(self, own: Planted, other: Planted) -> None:
        families = {family for walks in self.walks for family in walks.keys}
        for key, value in stored.kept():
            owner, _, rest = key.removeprefix("cp:").partition(":")
            for one in (own, other):
                if one.canary in key + value and not key.startswith(f"cp:{one.ref.id}:"):
                    self.findings.add(
                        f"key {key[:80]}", "holds what is a tenant's, and is not that tenant's key"
                    )
            if owner in (str(own.ref.id), str(other.ref.id)):
                self._count("keys", 1)
                if rest.partition(":")[0] not in families:
                    self.findings.add(f"key {key[:80]}", UNTAUGHT)

    def _look_for_remains(self, scene: Scene) -> None:
        for key, value in stored.kept():
            for one in scene.planted:
                if one.canary in key + value and str(one.ref.id) not in key:
                    self.findings.add(f"key {key[:80]}", "is left after the tenant was erased")

    # --- The tables -------------------------------------------------------------------------------------------
    def _compare_tables(
        self, kind: str, found: Mapping[Any, Any], known: Mapping[Any, Any], name: Callable[[Any], str]
    ) -> None:
        """Count, and find what is in one of the two alone."""
        for one in set(found) - set(known):
            self.findings.add(f"{kind}: {name(one)}", UNTAUGHT)
        for one in set(known) - set(found):
            self.findings.add(f"{kind}: {name(one)}", GONE)
        self._count(kind, len(set(found) & set(known)), len(found))

    def _count(self, kind: str, walked: int, found: int | None = None) -> None:
        counted = self.counts.setdefault(kind, {"found": 0, "walked": 0})
        counted["found"] += walked if found is None else found
        counted["walked"] += walked

    def _elsewhere(self) -> dict[str, str]:
        tables = [table for walks in self.walks for table in (walks.tasks, walks.commands)]
        return {
            name: how.why for table in tables for name, how in table.items() if isinstance(how, Elsewhere)
        }
