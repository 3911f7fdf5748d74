"""Tells the readers of a conversation that a message was accepted, and sends the job of its reply.

From a thread with a client of its own: it has no event loop, and to borrow one costs more than the round trip.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from uuid import UUID

from django.conf import settings
from hiredis import pack_command
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


def announce(conversation_id: UUID, accepted: Event, message: bytes, job: bytes | None = None) -> bool:
    """Begin the event log of a reply with `accepted`, publish the message, and carry out the command that sends the
    job; whether that was done. From a thread. Raises RedisError.
    """
    begun, commands = _commands(conversation_id, accepted, message, job)
    with _asking():
        answer, _, *sent = valkey.answers(client(), *commands)
        if isinstance(answer, NoScriptError):  # Valkey has restarted
            valkey.answers(client(), event_log.LOAD, begun.packed())
        return _is_done(answer, sent)


async def announce_here(
    conversation_id: UUID, accepted: Event, message: bytes, job: bytes | None = None
) -> bool:
    """The same from an event loop."""
    begun, commands = _commands(conversation_id, accepted, message, job)
    with _asking():
        answer, _, *sent = await event_log.ask(*commands, within=WITHIN)
        if isinstance(answer, NoScriptError):
            await event_log.append_all([begun])
        return _is_done(answer, sent)


def _commands(
    conversation_id: UUID, accepted: Event, message: bytes, job: bytes | None
) -> tuple[Append, list[bytes]]:
    to = event_log.address(conversation_id, accepted.reply_id)
    begun = Append(to, 0, [(accepted.kind, accepted.data)], begin=True)
    publish: Any = ("PUBLISH", to.channel, b"- 0-0 message %b" % message)
    return begun, [begun.packed(), pack_command(publish), *([job] if job else [])]


def _is_done(answer: Any, sent: list[Any]) -> bool:
    if isinstance(answer, RedisError) and not isinstance(answer, NoScriptError):
        raise answer
    return bool(sent) and not isinstance(sent[0], RedisError)


@contextmanager
def _asking() -> Iterator[None]:
    if not _valkey.may_try():
        raise RedisError("Valkey is away.")
    try:
        yield
    except RedisError:
        _valkey.failed()
        raise
    _valkey.answered()


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
