"""Reads a reply from any moment on: replay from the log, then live, without a gap and nothing twice.

The order is what makes it exact: first subscribe, then read the log, then take live events that come after what
was read. Where the log is gone, PostgreSQL has the text.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

from chatplatform import jobs
from chatplatform.api.problem import DATABASE_GONE
from conversations import selectors
from conversations.models import Reply
from conversations.streaming import event_log, events
from conversations.streaming.events import Event
from conversations.streaming.hub import Item, Leave, Subscription, hub
from conversations.vocabulary import ResetReason

SILENCE = 10.0  # s after which a reader of a running reply looks for itself: Valkey may be away for long


@dataclass(slots=True)
class Cursor:
    """How far one reader has got with one reply."""

    reply_id: str
    value: str = ""
    ended: bool = False
    behind: bool = False  # a replay failed: live events would leave a gap, so replay first

    def passes(self, event: Event) -> bool:
        """Whether the event is new to this reader; if so, it is noted."""
        if self.value == events.TEXT_CURSOR and event.kind != "reset":
            return False  # from before the log was lost, so it is in the stored text; the new log begins with a reset
        if self.ended or (self.value and event.position <= events.position(self.value)):
            return False
        self.value, self.ended = event.cursor, event.last
        return True


async def replay(cursor: Cursor) -> list[Event]:
    """What a reader has missed since its cursor; nothing, for now, if nobody can tell. Notes it on the cursor."""
    try:
        return await _missed(cursor)
    except DATABASE_GONE:
        cursor.behind = True  # looked at again at the next event, or after a silence
        return []


async def _missed(cursor: Cursor) -> list[Event]:
    try:
        logged = await event_log.read(cursor.reply_id, cursor.value or None)
    except event_log.RedisError:
        cursor.behind = True
        return await _stored(cursor, running=False)  # the log may still be there: wait for it
    cursor.behind = False
    if logged is None:
        return await _stored(cursor, running=True)
    return [event for event in logged if cursor.passes(event)]


async def _stored(cursor: Cursor, *, running: bool) -> list[Event]:
    """The reply as PostgreSQL has it, from a reset on, whatever the reader had before; told once.

    Without `running`, only a reply that has ended.
    """
    if cursor.value == events.END_CURSOR:
        return []
    reply = await jobs.in_thread(selectors.reply_or_none, UUID(cursor.reply_id))
    told = cursor.value in (events.RESET_CURSOR, events.TEXT_CURSOR)
    if reply is None or (reply.running and (told or not running)):
        return []
    made = stored_events(reply)
    cursor.value, cursor.ended = made[-1].cursor, made[-1].last
    return made


async def at_end(reply_id: UUID, after: str) -> bool:
    """Whether a reader with this cursor has had the last event; settled is not enough, it has to be out."""
    if after == events.END_CURSOR:
        return True
    try:
        newest = await event_log.newest(reply_id)
    except event_log.RedisError:
        return False
    return newest is not None and newest.last and newest.position <= events.position(after)


async def follow(
    conversation_id: UUID,
    reply_id: UUID,
    after: str | None = None,
    *,
    accepted: Event | None = None,
) -> AsyncIterator[Event]:
    """The events of one reply, to its last. `after` is a cursor, or None for all; `accepted` comes first then.

    They end early when this process is told to stop.
    """
    cursor = Cursor(str(reply_id), after or "")
    async with Ear(conversation_id) as ear:
        for event in events.with_accepted(await replay(cursor), accepted):
            yield event
        async for event in live(cursor, ear):
            yield event


class Ear:
    """Hears what is published of a conversation while it is entered: all of it, or of what kind one needs."""

    def __init__(self, conversation_id: UUID, kind: type[Subscription] = Subscription) -> None:
        self._to = conversation_id, kind
        self._woken = asyncio.Event()
        self.subscription: Subscription

    async def __aenter__(self) -> Ear:
        conversation_id, kind = self._to
        self._name, self.subscription = await hub().subscribe(conversation_id, self._woken.set, kind)
        return self

    async def __aexit__(self, *error: object) -> None:
        hub().leave(self._name, self.subscription)

    async def next(self) -> Item:
        """The next item; None after a long silence, too: the log may have more."""
        if not self.subscription.waiting:
            self._woken.clear()
            # A timer of its own takes less than half of what `asyncio.timeout` does, at each wait of each reader.
            silence = asyncio.get_running_loop().call_later(SILENCE, self._woken.set)
            try:
                await self._woken.wait()
            finally:
                silence.cancel()
        return self.subscription.take() if self.subscription.waiting else None


async def live(cursor: Cursor, ear: Ear, *, to_the_end: bool = False) -> AsyncIterator[Event]:
    """The events of one reply from here on, to its last. Whoever listened before it was begun misses nothing.

    They end early when this process is told to stop: soon, or `to_the_end` as late as can be; and without a last event
    if the conversation is erased.
    """
    while not cursor.ended:
        item = await ear.next()
        if isinstance(item, Leave):
            if item.after_ms == 0:
                return
            if not to_the_end:
                asyncio.get_running_loop().call_later(item.after_ms / 1000, ear.subscription.push, Leave(0))
            continue
        for event in await _news(cursor, item):
            yield event


async def _news(cursor: Cursor, item: Item) -> list[Event]:
    """What one item of a subscription means to the reader of one reply."""
    if isinstance(item, Event) and item.kind == events.ERASED:
        cursor.ended = True
        return []
    if item is None or cursor.behind:
        return await replay(cursor)
    if isinstance(item, Event) and item.reply_id == cursor.reply_id and cursor.passes(item):
        return [item]
    return []


def stored_events(reply: Reply) -> list[Event]:
    """The events that stand for a stored reply whose log is gone."""
    reply_id = str(reply.pk)
    made = [(events.RESET_CURSOR, *events.reset(reply_id, ResetReason.LOG_LOST))]
    if reply.message.content:
        made.append((events.TEXT_CURSOR, *events.delta(reply_id, reply.message.content)))
    if not reply.running:
        made.append((events.END_CURSOR, *events.ended(reply.status, selectors.reply_as_json(reply))))
    return [Event(reply_id, cursor, kind, data) for cursor, kind, data in made]
