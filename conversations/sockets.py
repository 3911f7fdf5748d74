"""The open sockets of this process, and the watch that closes those that may not stay."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import UUID
from weakref import WeakSet

import structlog

from chatplatform import jobs
from tenants import selectors
from tenants.models import Tenant
from tenants.services import api_keys
from tenants.vocabulary import TenantStatus

if TYPE_CHECKING:
    from conversations.consumers import Conversation

log = structlog.get_logger("conversations.sockets")
EVERY = 1.0  # s; what is looked at is kept for 4 s, so a change shows within the promised 5
NOT_AUTHENTICATED, NOT_ALLOWED = 4401, 4403

opened: WeakSet[Conversation] = WeakSet()


async def watch() -> None:
    """Close sockets of suspended tenants and of revoked or expired keys. Runs for ever."""
    while True:
        await asyncio.sleep(EVERY)
        try:
            await _look()
        except Exception as error:
            log.warning("socket_watch_failed", error=type(error).__name__)


async def _look() -> None:
    sockets = list(opened)
    if not sockets:
        return
    tenants = {socket.tenant_id for socket in sockets}
    keys = {socket.credential for socket in sockets if socket.credential.startswith("key:")}
    bad_tenants, bad_keys = await jobs.in_thread(_refused, tenants, keys)
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
