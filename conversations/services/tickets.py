"""Tickets for WebSockets: single use, 30 seconds, for browsers that cannot send an Authorization header."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from uuid import UUID

import orjson

from chatplatform import tenancy
from chatplatform.api.problem import Code, Problem
from conversations.models import Conversation
from conversations.streaming import event_log
from tenants.auth.principal import Principal

LIFETIME = 30  # s
PARTS = 7  # what is stored of a ticket


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a ticket stands for."""

    tenant_id: UUID
    conversation_id: UUID
    origin: str | None
    contact_id: UUID | None
    credential: str
    rests_on: tuple[str, ...] = ()
    expires_at: float | None = None


def _key(ticket: str) -> str:
    with tenancy.in_platform():  # the socket knows its tenant only through the ticket
        return tenancy.key("ticket", ticket)


async def issue(conversation: Conversation, origin: str | None, caller: Principal) -> str:
    """A new ticket for one socket, which stands on what its caller stands on. Raises Problem if Valkey is away."""
    ticket = secrets.token_urlsafe(32)
    body = [
        str(tenancy.current_tenant().id),
        str(conversation.pk),
        origin,
        caller.contact_id and str(caller.contact_id),
        caller.credential,
        caller.rests_on,
        caller.expires_at,
    ]
    try:
        await event_log.client().set(_key(ticket), orjson.dumps(body), ex=LIFETIME)
    except event_log.RedisError as error:
        raise Problem(Code.SHUTTING_DOWN, "Tickets cannot be issued at the moment.") from error
    return ticket


async def redeem(ticket: str) -> Ticket | None:
    """What a ticket stands for, once."""
    try:
        body = await event_log.client().getdel(_key(ticket))
    except event_log.RedisError:
        return None
    if body is None:
        return None
    parts = orjson.loads(body)
    if len(parts) != PARTS:  # of the version before or after, while one takes over from the other
        return None
    tenant_id, conversation_id, origin, contact_id, credential, rests_on, expires_at = parts
    return Ticket(
        UUID(tenant_id),
        UUID(conversation_id),
        origin,
        contact_id and UUID(contact_id),
        credential,
        tuple(rests_on),
        expires_at,
    )
