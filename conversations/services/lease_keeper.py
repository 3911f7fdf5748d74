"""Keeps the leases of all replies of this worker process alive, in one statement every third of a lease."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import structlog
from django.conf import settings

from chatplatform import jobs
from conversations.services import leases
from tenants import control

log = structlog.get_logger("conversations.leases")


class Hold:
    """One reply that this worker is at. `stop` is set when it must not go on: cancelled, or the lease is lost."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True
        self.stop.set()


_holds: dict[UUID, Hold] = {}


@contextmanager
def holding(reply_id: UUID) -> Iterator[Hold]:
    """Have this reply's lease renewed inside the block."""
    hold = _holds[reply_id] = Hold()
    try:
        yield hold
    finally:
        if _holds.get(reply_id) is hold:  # after a pause of this process its own next attempt may be running
            del _holds[reply_id]


async def keep_renewing() -> None:
    """Runs for ever in the worker's loop."""
    while True:
        await asyncio.sleep(settings.LEASE_SECONDS / 3)
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
            hold.stop.set()
        elif hold and reply_id in cancelled:
            hold.cancel()


def _cancel(message: dict[str, Any]) -> None:
    if hold := _holds.get(UUID(message["reply_id"])):
        hold.cancel()


control.on("cancel_reply", _cancel)
jobs.on_loop_start(keep_renewing)
jobs.on_loop_start(control.listen)
