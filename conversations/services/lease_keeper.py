"""What all replies of this worker process share: their leases are renewed, their texts kept, the ended ones taken off
the work table, each in one statement for all of them.
"""

from __future__ import annotations

import asyncio
import enum
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import structlog
from django.conf import settings

from chatplatform import jobs, tenancy
from chatplatform.tenancy import TenantRef
from conversations.services import leases, statements
from conversations.services.settlement import Outcome
from conversations.streaming.writer import ReplyWriter
from tenants import control

log = structlog.get_logger("conversations.leases")
CHECKPOINT_EVERY = 2.0  # s
# Seconds. Should this process die before, the end is announced again, and the log has it only once.
DONE_EVERY = 0.1
PAUSE = 1.0  # s between two tries while the database is away


class Stop(enum.Enum):
    """Why a reply must not go on here."""

    CANCELLED = "cancelled"
    LOST = "lost"  # another attempt has taken over
    HANDED_BACK = "handed back"  # this worker is stopped; another one goes on


class Hold:
    """One reply that this worker is at. `asking` is what is cancelled when it must stop."""

    def __init__(self, writer: ReplyWriter, contact: UUID | None) -> None:
        self.writer, self.tenant, self.contact = writer, tenancy.current_tenant(), contact
        self.stopped: Stop | None = None
        self.asking: asyncio.Task[Outcome] | None = None
        self.kept = ""  # the text that PostgreSQL has

    def stop(self, reason: Stop) -> None:
        """The first reason counts, but a lost lease comes before all."""
        if self.stopped is None or reason is Stop.LOST:
            self.stopped = reason
        if self.asking:
            self.asking.cancel()


_holds: dict[UUID, Hold] = {}
_over: set[UUID] = set()
_stopping = False


@contextmanager
def holding(reply_id: UUID, writer: ReplyWriter, contact: UUID | None) -> Iterator[Hold]:
    """Have this reply's lease renewed, and its text kept, inside the block."""
    if old := _holds.get(reply_id):  # this process was paused for longer than its lease
        old.stop(Stop.LOST)
    hold = _holds[reply_id] = Hold(writer, contact)
    if _stopping:
        hold.stop(Stop.HANDED_BACK)
    try:
        yield hold
    finally:
        if _holds.get(reply_id) is hold:
            del _holds[reply_id]


def over(reply_id: UUID) -> None:
    """The last event of a reply is out: its work row goes soon, with those of others."""
    _over.add(reply_id)


async def keep_renewing() -> None:
    """Runs for ever in the worker's loop."""
    while True:
        await asyncio.sleep(settings.LEASE_SECONDS / 3)
        for hold in _holds.values():
            if hold.writer.stale.is_set():
                hold.stop(Stop.LOST)
        if _holds:
            try:
                _note(set(_holds), *await jobs.in_urgent_thread(leases.renew, list(_holds)))
            except Exception as error:
                # The database is away. Replies go on: if another worker takes one over, the attempt fences ours.
                log.warning("leases_not_renewed", replies=len(_holds), error=type(error).__name__)


def _note(asked: set[UUID], held: set[UUID], cancelled: set[UUID]) -> None:
    for reply_id in asked:
        hold = _holds.get(reply_id)
        if hold and reply_id not in held:
            hold.stop(Stop.LOST)
        elif hold and reply_id in cancelled:
            hold.stop(Stop.CANCELLED)


async def keep_texts() -> None:
    """Runs for ever: every few seconds the texts so far go to PostgreSQL, a tenant's in one statement."""
    while True:
        await asyncio.sleep(CHECKPOINT_EVERY)
        changed: dict[TenantRef, list[tuple[UUID, int, str, UUID | None]]] = defaultdict(list)
        for reply_id, hold in _holds.items():
            if hold.writer.safe_to_keep and (text := hold.writer.text) != hold.kept:
                changed[hold.tenant].append((reply_id, hold.writer.attempt, text, hold.contact))
                hold.kept = text
        for tenant, texts in changed.items():
            try:
                with tenancy.in_tenant(tenant):
                    await jobs.in_thread(statements.checkpoint, texts)
            except Exception as error:  # the next one, or the settlement, makes up for it
                log.warning("texts_not_kept", replies=len(texts), error=type(error).__name__)


async def keep_tidy() -> None:
    """Runs for ever: takes ended replies off the work table."""
    while True:
        await asyncio.sleep(DONE_EVERY)
        if _over and not await _tidy():
            await asyncio.sleep(PAUSE)


async def _tidy() -> bool:
    ended = set(_over)
    try:
        await jobs.in_urgent_thread(leases.done, ended)
    except Exception as error:
        log.warning("work_not_done", replies=len(ended), error=type(error).__name__)
        return False
    _over.difference_update(ended)
    return True


async def hand_back() -> None:
    """This worker is stopped: what is still running goes to another one."""
    global _stopping
    _stopping = True
    for hold in list(_holds.values()):
        hold.stop(Stop.HANDED_BACK)
    if _over:
        await _tidy()


def _cancel(message: dict[str, Any]) -> None:
    if hold := _holds.get(UUID(message["reply_id"])):
        hold.stop(Stop.CANCELLED)


control.on("cancel_reply", _cancel)
jobs.on_hand_back(hand_back)
for start in (keep_renewing, keep_texts, keep_tidy, control.listen):
    jobs.on_loop_start(start)
