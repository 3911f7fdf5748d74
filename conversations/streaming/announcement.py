"""Tells the readers of a conversation that a message was accepted, and sends the job of its reply.

From a thread with a client of its own: it has no event loop, and to borrow one costs more than the round trip.
"""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Any
from uuid import UUID

from django.conf import settings
from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError
from redis.retry import Retry

from chatplatform import valkey
from chatplatform.resilience.availability import Availability
from conversations.streaming import event_log
from conversations.streaming.event_log import Append
from conversations.streaming.events import Event

_valkey = Availability()  # an outage costs one message the time-out, not every one
WITHIN = 1.0  # s that accepting waits for the event log; PostgreSQL has the message already


async def announce(conversation_id: UUID, accepted: Event, message: bytes, job: bytes | None = None) -> bool:
    """Begin the event log of a reply with `accepted`, publish the message, and carry out the command that sends the
    job; whether that was done. From an event loop or, with `jobs.at_once`, a thread. Raises RedisError.
    """
    if not _valkey.may_try():
        raise RedisError("Valkey is away.")
    try:
        sent = await _announce(conversation_id, accepted, message, job)
    except RedisError:
        _valkey.failed()
        raise
    _valkey.answered()
    return sent


async def _announce(conversation_id: UUID, accepted: Event, message: bytes, job: bytes | None) -> bool:
    to = event_log.address(conversation_id, accepted.reply_id)
    begun = Append(to, 0, [(accepted.kind, accepted.data)], begin=True).packed()
    publish = valkey.packed("PUBLISH", to.channel, b"- 0-0 message %b" % message)
    answer, _, *sent = await _ask(begun, publish, *([job] if job else []))
    if isinstance(answer, NoScriptError):  # Valkey has restarted
        _, answer = await _ask(event_log.LOAD, begun)
    if isinstance(answer, RedisError):
        raise answer
    return bool(sent) and not isinstance(sent[0], RedisError)


async def _ask(*packed: bytes) -> list[Any]:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return valkey.answers(client(), *packed)
    return await event_log.ask(*packed, within=WITHIN)


@cache
def client() -> Any:
    """The client of threads."""
    pool = ConnectionPool.from_url(
        settings.EVENT_LOG_URL,
        socket_timeout=WITHIN,
        socket_connect_timeout=WITHIN,
        retry=Retry(NoBackoff(), 0),
    )
    return Redis(connection_pool=pool)
