"""Tells the readers of a conversation that a message was accepted, and sends the job of its reply, from the thread that
has just stored it.

With a client of its own: the thread has no event loop, and to borrow one costs more than the round trip.
"""

from __future__ import annotations

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
    job; whether that was done. Raises RedisError.
    """
    if not _valkey.may_try():
        raise RedisError("Valkey is away.")
    try:
        sent = _announce(conversation_id, accepted, message, job)
    except RedisError:
        _valkey.failed()
        raise
    _valkey.answered()
    return sent


def _announce(conversation_id: UUID, accepted: Event, message: bytes, job: bytes | None) -> bool:
    to = event_log.address(conversation_id, accepted.reply_id)
    begun = Append(to, 0, [(accepted.kind, accepted.data)], begin=True)
    publish: Any = ("PUBLISH", to.channel, b"- 0-0 message %b" % message)
    commands = begun.packed(), pack_command(publish), *([job] if job else [])
    answer, _, *sent = valkey.answers(client(), *commands)
    if isinstance(answer, NoScriptError):  # Valkey has restarted
        client().script_load(event_log.SCRIPT)
        client().execute_command(*begun.command())
    elif isinstance(answer, RedisError):
        raise answer
    return bool(sent) and not isinstance(sent[0], RedisError)


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
