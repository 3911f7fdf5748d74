"""The event log of a reply: a Valkey stream that every reader reads, with the attempt number as its fence.

Valkey may be flushed or away at any moment; whoever writes here is told (`LogLost`, or the client's own
connection errors) and repairs the log with a `reset` and the text so far.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

from django.conf import settings
from redis.asyncio import Redis
from redis.exceptions import RedisError

from chatplatform import tenancy
from conversations.streaming.events import Event

SCRIPT = (Path(__file__).parent / "append.lua").read_text()
KEEP_RUNNING = 3600  # s that a log outlives its last append while the reply runs
KEEP_ENDED = 15 * 60 + 60  # s that it stays readable after the end; the contract says 15 minutes

_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, Redis] = WeakKeyDictionary()


class LogLost(Exception):
    """The log was there and is gone (Valkey was flushed or restarted)."""


class StaleAttempt(Exception):
    """A newer attempt owns the log: this one must stop."""


def client() -> Redis:
    """The client of the running event loop; connections are pooled."""
    loop = asyncio.get_running_loop()
    if loop not in _clients:
        _clients[loop] = Redis.from_url(
            settings.EVENT_LOG_URL, socket_timeout=5, socket_connect_timeout=2, max_connections=64
        )
    return _clients[loop]


def channel(conversation_id: UUID | str) -> str:
    """Where the events of a conversation's replies are published. Carries the tenant, as every key does."""
    return tenancy.key("events", conversation_id)


def _keys(reply_id: UUID | str) -> tuple[str, str]:
    # The braces keep both keys on one node of a cluster.
    log = tenancy.key("reply") + f":{{{reply_id}}}"
    return f"{log}:log", f"{log}:attempt"


async def append(
    conversation_id: UUID | str,
    reply_id: UUID | str,
    attempt: int,
    events: Sequence[tuple[str, bytes]],
    *,
    begin: bool = False,
    ended: bool = False,
) -> str:
    """Append events and publish them; returns the cursor of the last one.

    `begin` lets a new attempt take the log over, or begin it. Raises StaleAttempt, LogLost, RedisError.
    """
    log, fence = _keys(reply_id)
    keep = KEEP_ENDED if ended else KEEP_RUNNING
    arguments: list[str | bytes | int] = [
        attempt,
        "1" if begin else "0",
        keep,
        channel(conversation_id),
        str(reply_id),
    ]
    for kind, data in events:
        arguments += [kind, data]
    script = client().register_script(SCRIPT)
    answer = (await script(keys=[log, fence], args=arguments)).decode()
    if answer == "stale":
        raise StaleAttempt
    if answer == "lost":
        raise LogLost
    return str(answer)


async def publish(conversation_id: UUID | str, kind: str, data: bytes) -> None:
    """Tell the readers of a conversation something that is no event of a reply. Raises RedisError."""
    await client().publish(channel(conversation_id), b"- 0-0 %b %b" % (kind.encode(), data))


async def read(reply_id: UUID | str, after: str | None = None) -> list[Event] | None:
    """The events after a cursor (all, if None); None if there is no log. Raises RedisError."""
    log, _ = _keys(reply_id)
    rows: Any = await client().xrange(log, min=f"({after}" if after else "-")
    if not rows and not await client().exists(log):
        return None
    return [
        Event(str(reply_id), cursor.decode(), entry[b"k"].decode(), entry[b"d"]) for cursor, entry in rows
    ]


__all__ = ["LogLost", "RedisError", "StaleAttempt", "append", "channel", "client", "publish", "read"]
