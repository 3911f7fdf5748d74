"""Walks WebSockets: opened, used and read as a browser or a backend does it, with every kind of credential."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from chatplatform.isolation import Planted, Who
from chatplatform.management.isolation.caller import Caller
from chatplatform.management.isolation.walk import Findings, host_of

TICKET = re.compile(r'"ticket":\s*"([^"]+)"')
TICKETS = "/api/v1/ws-tickets"


@dataclass(frozen=True, slots=True)
class Trial:
    """One socket: at whose host, in whose conversation, with whose credentials, and what is sent. `ticket`: it shows a
    ticket in their place, which those credentials have got for their own conversation.
    """

    what: str
    host: Planted
    talk: Planted
    whose: Planted
    who: Who
    ticket: bool = False
    page: Planted | None = None  # whose page opens it, if not the host's
    ask: bool = False  # say something, and do not just read on
    reply: Planted | None = None  # whose is read, if not that of the conversation
    opens: bool = False


def trials(own: Planted, other: Planted) -> Iterator[Trial]:
    """What is opened: by the tenant itself, then with something of the other's."""
    yield Trial("with its key", own, own, own, Who.KEY, ask=True, opens=True)
    yield Trial("with its key, for the other's reply", own, own, own, Who.KEY, reply=other, opens=True)
    for who, ticket in (
        (Who.KEY, False),
        (Who.TOKEN, False),
        (Who.VISITOR, False),
        (Who.KEY, True),
        (Who.TOKEN, True),
    ):
        how = f"with {who}" + (", by a ticket" if ticket else "")
        yield Trial(how, own, own, own, who, ticket, opens=True)
        yield Trial(f"{how}, in the other's conversation", own, other, own, who, ticket)
        yield Trial(f"{how}, at the other's host", other, own, own, who, ticket)
        yield Trial(f"{how}, at the other's host, in its conversation", other, other, own, who, ticket)
        yield Trial(f"{how}, from the other's page", own, own, own, who, ticket, page=other)
        yield Trial(f"{how} of the other's", own, own, other, who, ticket)
    yield Trial("with nothing", own, own, own, Who.NOBODY)


async def walk(caller: Caller, own: Planted, other: Planted, findings: Findings) -> None:
    """Try them all."""
    for trial in trials(own, other):
        await _try(caller, trial, own, other, findings)
    answer = await caller.socket(host_of(own), "/ws/nowhere", own.credentials[Who.KEY])
    if answer.status != 404:
        findings.add("socket at no address", f"answers {answer.status}")


async def _try(caller: Caller, trial: Trial, own: Planted, other: Planted, findings: Findings) -> None:
    findings.asked += 1
    where = f"socket {trial.what}"
    headers, query = dict(trial.whose.credentials[trial.who]), ""
    if trial.ticket:
        headers, query = {}, f"ticket={await _ticket(caller, trial.whose, trial.who)}"
    if trial.page:
        headers["Origin"] = f"{settings.PUBLIC_SCHEME}://{host_of(trial.page)}"
    reply = (trial.reply or trial.talk).ids["reply_id"]
    frame: dict[str, Any] = {"type": "resume", "reply_id": reply}
    if trial.ask:
        frame = {"type": "message", "content": f"Hello {own.canary}", "client_id": "1"}
    path = f"/ws/{trial.talk.ids['conversation_id']}"
    answer = await caller.socket(host_of(trial.host), path, headers, (frame,), query)
    if (answer.status == 101) is not trial.opens:
        findings.add(where, f"answers {answer.status}")
    if other.canary in answer.text:
        findings.add(where, "SHOWS WHAT IS THE OTHER'S")
    if trial.opens and trial.reply is None and own.canary not in answer.text:
        findings.add(where, f"does not show what was planted: {answer.text[-300:]}")


async def _ticket(caller: Caller, whose: Planted, who: Who) -> str:
    body = {"conversation_id": whose.ids["conversation_id"]}
    answer = await caller.http(host_of(whose), "POST", TICKETS, headers=whose.credentials[who], body=body)
    found = TICKET.search(answer.text)
    return found[1] if found else ""
