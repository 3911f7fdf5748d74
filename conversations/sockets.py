"""The open sockets and event streams of this process, and the watch that closes those that may not stay."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

import structlog
from django.conf import settings

from chatplatform import jobs
from tenants.auth import standing
from tenants.auth.principal import Principal

if TYPE_CHECKING:
    from conversations.consumers import Conversation

log = structlog.get_logger("conversations.sockets")
EVERY = 1.0  # s; what is looked at is kept for 4 s, so a change shows within the promised 5
NOT_AUTHENTICATED, NOT_ALLOWED, TOO_SLOW, RESTARTING = 4401, 4403, 4408, 4503


class Held(Protocol):
    """What stays open for a caller."""

    principal: Principal

    async def close(self, code: int) -> None:
        """End it. The code is for sockets: a stream just ends."""


opened: set[Conversation] = set()
streams: set[Held] = set()
_closing: set[asyncio.Task[None]] = set()  # kept, or the loop forgets them


async def watch() -> None:
    """Close what suspended tenants and revoked or expired keys and tokens have open, and sockets of clients that do not
    read; have those look at their replies that have heard nothing for long. Runs for ever.
    """
    while True:
        await asyncio.sleep(EVERY)
        try:
            _look_at_progress(time.monotonic())
            await _look()
        except Exception as error:
            log.warning("socket_watch_failed", error=type(error).__name__)


def close_all() -> None:
    """This process ends: close every socket, without waiting for it."""
    for socket in list(opened):
        _close(socket, RESTARTING)


def _close(socket: Conversation, code: int) -> None:
    task = asyncio.get_running_loop().create_task(socket.close(code))
    _closing.add(task)
    task.add_done_callback(_closing.discard)


def _look_at_progress(now: float) -> None:
    for socket in list(opened):
        stuck_since = socket.waiting_since or socket.sending_since
        if stuck_since and now - stuck_since > settings.SLOW_CLIENT_SECONDS:
            _close(socket, TOO_SLOW)
        elif socket.cursors:
            socket.look_if_silent(now)


async def _look() -> None:
    """End what its caller may not have any more. One question for each thing that callers rest on, however many rest
    on it; it is answered from what the process keeps.
    """
    found: list[Held] = [*opened, *streams]
    late = {one for one in found if standing.is_over(one.principal.expires_at)}
    await _end(late, NOT_AUTHENTICATED)  # first: for this nobody has to be asked
    left = [one for one in found if one not in late]
    if not left:
        return
    tenants = {one: f"tenant:{one.principal.tenant.ref.id}" for one in left if one.principal.tenant}
    things = {thing for one in left for thing in one.principal.rests_on}
    gone = await jobs.in_thread(standing.gone, things.union(tenants.values()))
    if gone:
        suspended = {one for one in left if tenants.get(one) in gone}
        revoked = {one for one in left if not gone.isdisjoint(one.principal.rests_on)}
        await _end(suspended, NOT_ALLOWED)
        await _end(revoked - suspended, NOT_AUTHENTICATED)


async def _end(held: set[Held], code: int) -> None:
    # One that fails must not keep the others open.
    await asyncio.gather(*(one.close(code) for one in held), return_exceptions=True)
