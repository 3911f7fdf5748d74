"""The event log of a reply: a Valkey stream that every reader reads, with the attempt number as its fence.

Valkey may be flushed or away at any moment; whoever writes here is told (`LogLost`, or the client's own
connection errors) and repairs the log with a `reset` and the text so far.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

from django.conf import settings
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from chatplatform import tenancy, valkey
from chatplatform.valkey import Wire
from conversations.streaming.events import Event

SCRIPT = (Path(__file__).parent / "append.lua").read_text()
SHA = hashlib.sha1(SCRIPT.encode()).hexdigest()  # as Valkey itself names it
LOAD = valkey.packed("SCRIPT", "LOAD", SCRIPT)
TIMEOUT = 2  # s
KEEP_RUNNING = 3600  # s that a log outlives its last append while the reply runs
KEEP_ENDED = 15 * 60 + 60  # s that it stays readable after the end; the contract says 15 minutes

_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, Redis] = WeakKeyDictionary()
_wires: WeakKeyDictionary[asyncio.AbstractEventLoop, Wire] = WeakKeyDictionary()


class LogLost(Exception):
    """The log was there and is gone (Valkey was flushed or restarted)."""


class StaleAttempt(Exception):
    """A newer attempt owns the log, or it has its last event: this one must stop."""


Answer = str | StaleAttempt | LogLost | RedisError


def client() -> Redis:
    """The client of the running event loop; connections are pooled, and waited for if all are in use."""
    loop = asyncio.get_running_loop()
    if loop not in _clients:
        pool = BlockingConnectionPool.from_url(
            settings.EVENT_LOG_URL,
            socket_timeout=TIMEOUT,
            socket_connect_timeout=TIMEOUT,
            max_connections=64,
            timeout=TIMEOUT,
            # An append whose answer was lost may have been done: repeating it here would double its text.
            retry=Retry(NoBackoff(), 0),
            # In the third one redis-py asks some servers for notices between the answers, which are counted here.
            protocol=2,
        )
        _clients[loop] = Redis.from_pool(pool)
    return _clients[loop]


def channel(conversation_id: UUID | str) -> str:
    """Where the events of a conversation's replies are published. Carries the tenant, as every key does."""
    return tenancy.key("events", conversation_id)


@dataclass(frozen=True, slots=True)
class Address:
    """The names of one reply's log. They carry its tenant, so they are made in its context."""

    reply_id: str
    log: str
    fence: str
    channel: str


def address(conversation_id: UUID | str, reply_id: UUID | str) -> Address:
    """Where a reply of the current tenant is logged."""
    log, fence = _keys(reply_id)
    return Address(str(reply_id), log, fence, channel(conversation_id))


def _keys(reply_id: UUID | str) -> tuple[str, str]:
    # The braces keep both keys on one node of a cluster.
    log = tenancy.key("reply") + f":{{{reply_id}}}"
    return f"{log}:log", f"{log}:attempt"


@dataclass(frozen=True, slots=True)
class Append:
    """Events to append and publish. `begin` lets a new attempt take the log over, or begin it; after `ended`
    nothing more is let in."""

    address: Address
    attempt: int
    events: Sequence[tuple[str, bytes]]
    begin: bool = False
    ended: bool = False

    def packed(self) -> bytes:
        """The command as it goes over the wire."""
        to, flags = self.address, ("1" if self.begin else "0", "1" if self.ended else "0")
        keep = KEEP_ENDED if self.ended else KEEP_RUNNING
        parts = (part for event in self.events for part in event)
        arguments = (to.log, to.fence, self.attempt, *flags, keep, to.channel, to.reply_id, *parts)
        return valkey.packed("EVALSHA", SHA, 2, *arguments)


async def append_all(appends: Sequence[Append]) -> list[Answer]:
    """Append for many replies in one round trip. Each answer is the cursor of its last event, or a StaleAttempt,
    LogLost or RedisError of its own. Raises RedisError if Valkey is away.
    """
    answers = await ask(*[append.packed() for append in appends]) if appends else []
    unknown = [number for number, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
    if unknown:  # Valkey has restarted; nothing was done for these
        _, *again = await ask(LOAD, *[appends[number].packed() for number in unknown])
        for number, answer in zip(unknown, again, strict=True):
            answers[number] = answer
    return [_meaning(answer) for answer in answers]


async def ask(*packed: bytes, within: float | None = None) -> list[Any]:
    """What the server of the logs answers to short commands, in one round trip. Raises RedisError if it is away, or
    takes longer than `within` seconds (TIMEOUT)."""
    loop = asyncio.get_running_loop()
    if loop not in _wires:
        _wires[loop] = Wire(client().connection_pool, TIMEOUT)
    return await _wires[loop].answers(*packed, within=within)


def _meaning(answer: Any) -> Answer:
    if isinstance(answer, RedisError):
        return answer
    said = answer.decode()
    return StaleAttempt() if said == "stale" else LogLost() if said == "lost" else str(said)


async def publish(conversation_id: UUID | str, kind: str, data: bytes) -> None:
    """Tell the readers of a conversation something that is no event of a reply. Raises RedisError."""
    await client().publish(channel(conversation_id), b"- 0-0 %b %b" % (kind.encode(), data))


async def read(reply_id: UUID | str, after: str | None = None) -> list[Event] | None:
    """The events after a cursor (all, if None); None if there is no log. Raises RedisError."""
    log, _ = _keys(reply_id)
    rows: Any = await client().xrange(log, min=f"({after}" if after else "-")
    if not rows and not await client().exists(log):
        return None
    return _events(reply_id, rows)


async def newest(reply_id: UUID | str) -> Event | None:
    """The last event that is in the log so far. Raises RedisError."""
    log, _ = _keys(reply_id)
    rows: Any = await client().xrevrange(log, count=1)
    return next(iter(_events(reply_id, rows)), None)


def _events(reply_id: UUID | str, rows: Any) -> list[Event]:
    return [
        Event(str(reply_id), cursor.decode(), entry[b"k"].decode(), entry[b"d"]) for cursor, entry in rows
    ]


__all__ = [
    "Address",
    "Answer",
    "Append",
    "LogLost",
    "RedisError",
    "StaleAttempt",
    "address",
    "append_all",
    "ask",
    "channel",
    "client",
    "newest",
    "publish",
    "read",
]
