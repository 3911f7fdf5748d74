"""One subscription connection per process, fanned out in memory to all readers of that process."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

import structlog
from django.conf import settings
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from chatplatform import draining, valkey
from conversations.streaming.event_log import channel
from conversations.streaming.events import ERASED, Event

log = structlog.get_logger("conversations.hub")
LONGEST_QUEUE = 256  # events kept for one reader; the log has them all
CONFIRMED_WITHIN = 2.0  # s
KEPT_FOR = 30.0  # s that a subscription outlives its last reader: the next turn may come soon
PAUSE = 0.5  # s between two tries to connect


@dataclass(frozen=True, slots=True)
class Resume:
    """A reader's own wish, queued between the events so that it is met in their order: replay one reply.

    `after` is a cursor, or empty for all of it. `unless_known`: not if the reader follows that reply already.
    """

    reply_id: str
    after: str = ""
    unless_known: bool = False
    accepted: Event | None = None  # what the reader has to be told first, if it is not in the log


@dataclass(frozen=True, slots=True)
class Leave:
    """This process ends: the reader should go elsewhere after so many milliseconds; 0 is now, whoever it is."""

    after_ms: int


Item = Event | Resume | Leave | None


class Subscription:
    """The live events of one conversation. Bounded: a reader that falls behind is told to replay the log.

    `wake` is called with every item; it must not fail.
    """

    __slots__ = ("_events", "wake")

    def __init__(self, wake: Callable[[], object]) -> None:
        self._events: deque[Item] | None = None  # there is none for most of a conversation's life
        self.wake = wake

    def push(self, item: Item) -> None:
        """Add an event or a wish; None means that events may have been missed: read the log again."""
        events = self._events = deque() if self._events is None else self._events
        if item is None or len(events) >= LONGEST_QUEUE:
            wishes = [kept for kept in events if isinstance(kept, Resume | Leave)][-100:]
            events.clear()
            events.extend([None, *wishes])
        if item is not None:
            events.append(item)
        self.wake()

    @property
    def waiting(self) -> bool:
        """Whether there is an item to take."""
        return bool(self._events)

    def take(self) -> Item:
        """The next item. Raises IndexError if nothing is waiting."""
        events = self._events
        if not events:
            raise IndexError("Nothing is waiting.")
        item = events.popleft()
        if not events:
            self._events = None
        return item


class Ends(Subscription):
    """The last events of a conversation's replies alone (or its own end), for who waits for nothing else."""

    __slots__ = ()

    def push(self, item: Item) -> None:
        if not isinstance(item, Event) or item.last or item.kind == ERASED:
            super().push(item)


class Hub:
    """Subscribes to a conversation's channel while this process has a reader of it, and a little longer.

    Many requests of a busy conversation then cost one subscription, not two commands for each.
    """

    def __init__(self) -> None:
        self._readers: dict[str, set[Subscription]] = {}
        self._confirmed: dict[str, asyncio.Event] = {}  # of each channel that has been subscribed to
        self._left: dict[str, float] = {}  # when the last reader of a channel left, oldest first
        self._missed: set[str] = set()  # conversations whose readers have to look for themselves
        self._away = False
        self._connection: Any = None
        self._tasks: list[asyncio.Task[None]] = []

    async def subscribe(
        self,
        conversation_id: UUID | str,
        wake: Callable[[], object],
        kind: type[Subscription] = Subscription,
    ) -> tuple[str, Subscription]:
        """Join a conversation; once this returns, nothing that is published is missed (or a None tells so)."""
        name, subscription = channel(conversation_id), kind(wake)
        self._readers.setdefault(name, set()).add(subscription)
        self._left.pop(name, None)
        try:
            await self._join(name)
        except BaseException:  # cancelled, most likely: nobody is left to call `leave`
            self.leave(name, subscription)
            raise
        return name, subscription

    async def _join(self, name: str) -> None:
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._tidy())]
        confirmed = self._confirmed.get(name)
        if confirmed is None:
            confirmed = self._confirmed[name] = asyncio.Event()
            await self._send(b"SUBSCRIBE", name)
        # Without Valkey there is no confirmation; the reader goes on with what PostgreSQL knows.
        if not (confirmed.is_set() or self._away):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CONFIRMED_WITHIN):
                    await confirmed.wait()

    def leave(self, name: str, subscription: Subscription) -> None:
        """Stop listening; some time after the last reader of a conversation, its subscription ends."""
        readers = self._readers.get(name, set())
        readers.discard(subscription)
        if not readers:
            self._readers.pop(name, None)
            self._left[name] = time.monotonic()

    def let_go(self, within_ms: int) -> None:
        """Ask all readers to go elsewhere, at moments spread over so many milliseconds; 0 is now."""
        for readers in self._readers.values():
            for reader in readers:
                reader.push(Leave(draining.jitter(within_ms)))

    async def _send(self, command: bytes, *names: str) -> None:
        if self._connection is not None:
            with contextlib.suppress(RedisError, OSError, RuntimeError):
                await self._connection.send_packed_command(valkey.packed(command, *names))

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(KEPT_FOR / 10)
            before = time.monotonic() - KEPT_FOR
            await self._end([name for name, left in self._left.items() if left < before])

    async def _end(self, names: list[str]) -> None:
        for name in names:
            del self._left[name], self._confirmed[name]
        if names:
            await self._send(b"UNSUBSCRIBE", *names)

    async def _listen(self) -> None:
        while True:
            try:
                await self._listen_once()
            except Exception as error:  # whatever it is: without this task the process hears nothing any more
                if not self._away:
                    log.warning("hub_disconnected", error=type(error).__name__)
            self._connection, self._away = None, True
            await self._end(list(self._left))
            await asyncio.sleep(PAUSE)

    async def _listen_once(self) -> None:
        # No read timeout: an idle subscription is healthy. No hidden reconnects: readers must hear of a gap.
        redis = Redis.from_url(
            settings.EVENT_LOG_URL,
            socket_timeout=None,
            socket_connect_timeout=2,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        async with redis:
            # Not the client's own PubSub: it does much with each message that nobody needs here.
            connection = await redis.connection_pool.get_connection()  # type: ignore[no-untyped-call]
            # From here on new readers subscribe for themselves.
            self._connection, self._away = connection, False
            self._missed.update(self._readers)
            await self._send(b"SUBSCRIBE", "cp:hub", *self._confirmed)
            while True:
                kind, name, data = await connection.read_response(timeout=math.inf)
                self._take(kind, name.decode(), data)

    def _take(self, kind: bytes, name: str, data: bytes) -> None:
        if kind == b"subscribe" and name in self._confirmed:
            self._confirmed[name].set()
            if name in self._missed:
                self._missed.discard(name)
                self._push(name, None)
        elif kind == b"message" and name in self._readers:
            reply_id, cursor, event, body = data.split(b" ", 3)
            made = Event(reply_id.decode(), cursor.decode(), event.decode(), body)
            self._push(name, made)

    def _push(self, name: str, item: Event | None) -> None:
        for reader in self._readers.get(name, ()):
            reader.push(item)


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


def hub() -> Hub:
    """The hub of the running event loop."""
    loop = asyncio.get_running_loop()
    if loop not in _hubs:
        _hubs[loop] = Hub()
    return _hubs[loop]
