"""When a key was last used: noted in memory at each use, and written for all keys at once.

What a process has noted when it is killed is lost: the times are to find keys that nobody uses, not to prove anything.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import structlog
from django.db.models import Q
from django.utils import timezone

from chatplatform import jobs, tenancy
from tenants.models import ApiKey
from tenants.services import api_keys

log = structlog.get_logger("tenants.api_keys")
EVERY = 15.0  # s
APART = timedelta(minutes=1)  # between two writes for one key, in all processes together


async def keep_noting() -> None:
    """Write down which keys were used. Runs for ever."""
    while True:
        await asyncio.sleep(EVERY)
        try:
            await jobs.in_thread(note)
        except Exception as error:
            log.warning("api_key_uses_not_noted", error=type(error).__name__)


def note() -> int:
    """Write down now which keys were used; how many rows that took."""
    ids = [api_keys.used.pop() for _ in range(len(api_keys.used))]
    if not ids:
        return 0
    now = timezone.now()
    due = Q(last_used_at=None) | Q(last_used_at__lt=now - APART)
    with tenancy.in_platform():
        return ApiKey.objects.filter(due, public_id__in=ids).update(last_used_at=now)
