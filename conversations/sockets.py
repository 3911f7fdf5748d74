"""The open sockets of this process, and the watch that closes those that may not stay."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING
from uuid import UUID

import structlog
from django.conf import settings

from chatplatform import jobs
from tenants import selectors
from tenants.models import Tenant
from tenants.services import api_keys
from tenants.vocabulary import TenantStatus

if TYPE_CHECKING:
    from conversations.consumers import Conversation

log = structlog.get_logger("conversations.sockets")
EVERY = 1.0  # s; what is looked at is kept for 4 s, so a change shows within the promised 5
NOT_AUTHENTICATED, NOT_ALLOWED, TOO_SLOW, RESTARTING = 4401, 4403, 4408, 4503

opened: set[Conversation] = set()
_closing: set[asyncio.Task[None]] = set()  # kept, or the loop forgets them


async def watch() -> None:
    """Close sockets of suspended tenants, of revoked or expired keys, and of clients that do not read; have those
    look at their replies that have heard nothing for long. Runs for ever.
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
    sockets = list(opened)
    if not sockets:
        return
    tenants = {socket.tenant_id for socket in sockets}
    keys = {socket.credential for socket in sockets if socket.credential.startswith("key:")}
    bad_tenants, bad_keys = await jobs.in_thread(_refused, tenants, keys)
    if not (bad_tenants or bad_keys):
        return
    closed = [socket.close(NOT_ALLOWED) for socket in sockets if socket.tenant_id in bad_tenants]
    closed += [
        socket.close(NOT_AUTHENTICATED)
        for socket in sockets
        if socket.credential in bad_keys and socket.tenant_id not in bad_tenants
    ]
    await asyncio.gather(*closed, return_exceptions=True)  # one that fails must not keep the others open


def _refused(tenants: set[UUID], keys: set[str]) -> tuple[set[UUID], set[str]]:
    return {tenant for tenant in tenants if not _is_active(tenant)}, {
        key for key in keys if not _is_usable(key)
    }


def _is_active(tenant_id: UUID) -> bool:
    try:
        return selectors.state(tenant_id).status == TenantStatus.ACTIVE
    except Tenant.DoesNotExist:
        return False


def _is_usable(credential: str) -> bool:
    return api_keys.is_usable(credential.removeprefix("key:"))
