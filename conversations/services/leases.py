"""Who is at work on which reply. The lease is in the shared work table, the attempt's number fences everything."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Collection
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, transaction
from django.db.models import Count, F, Min, Q
from django.utils import timezone

from chatplatform import tenancy
from chatplatform.observability import metrics
from chatplatform.tenancy import TenantRef
from conversations.models import Reply, Work
from conversations.models.work import WorkState
from conversations.vocabulary import RUNNING, ReplyStatus

OWNER = f"{socket.gethostname()[:40]}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


def _expiry() -> timedelta:
    return timedelta(seconds=settings.LEASE_SECONDS)


def acquire(reply_id: UUID) -> tuple[int, bool] | None:
    """Take the lease on a reply of the current tenant and begin the next attempt: its number, and whether somebody
    has asked for the reply to stop.

    None if another worker holds a live lease, or nothing is left to do: then the caller leaves.
    """
    now = timezone.now()
    with transaction.atomic():
        # First the reply, then its work, as the settlement does: an older attempt may be settling just now.
        Reply.objects.select_for_update().filter(pk=reply_id).first()
        with tenancy.in_platform():
            free = Q(lease_expires_at=None) | Q(lease_expires_at__lt=now)
            taken = Work.objects.filter(free, id=reply_id, state=WorkState.PENDING).update(
                owner=OWNER, attempt=F("attempt") + 1, lease_expires_at=now + _expiry()
            )
            if not taken:
                return None
            attempt, cancelled = Work.objects.values_list("attempt", "cancel_requested").get(id=reply_id)
        started = Reply.objects.filter(pk=reply_id, status__in=RUNNING, attempt__lt=attempt).update(
            attempt=attempt, status=ReplyStatus.GENERATING, started_at=now
        )
        return (attempt, cancelled) if started else None


def renew(replies: Collection[UUID]) -> tuple[set[UUID], set[UUID]]:
    """Renew this worker's leases in one statement. Returns those still held, and of them those to be cancelled."""
    with tenancy.in_platform():
        mine = Work.objects.filter(id__in=replies, owner=OWNER, state=WorkState.PENDING)
        mine.update(lease_expires_at=timezone.now() + _expiry())
        rows = mine.values_list("id", "cancel_requested")
        held = dict(rows)
    return set(held), {reply_id for reply_id, cancelled in held.items() if cancelled}


def settled(reply_id: UUID) -> None:
    """Note, in the settling transaction, that only the last event is left to do."""
    with tenancy.in_platform():
        Work.objects.filter(id=reply_id).update(
            state=WorkState.SETTLED, owner="", lease_expires_at=timezone.now() + _expiry()
        )


def done(reply_id: UUID) -> None:
    """The last event is out: nothing is left to do."""
    with tenancy.in_platform():
        # Nothing refers to a work row: no need to look for it first, as delete() does.
        Work.objects.filter(id=reply_id)._raw_delete(DEFAULT_DB_ALIAS)


def orphans(limit: int = 500) -> list[tuple[UUID, TenantRef, str, int]]:
    """Work nobody is at: lost by the broker, left by a dead worker, or settled without its last event.

    Each is (reply id, tenant, state, attempts so far). Rows are claimed for one lease period, so that two
    reconcilers at once do not both send them.
    """
    now = timezone.now()
    lost = Q(lease_expires_at=None, enqueued_at__lt=now - _expiry()) | Q(lease_expires_at__lt=now)
    with tenancy.in_platform(), transaction.atomic():
        rows = list(
            Work.objects.filter(lost)
            .select_related("tenant")
            .select_for_update(skip_locked=True, of=("self",))[:limit]
        )
        waiting = [row.id for row in rows if row.lease_expires_at is None]
        ended = [row.id for row in rows if row.state == WorkState.SETTLED]
        Work.objects.filter(id__in=waiting).update(enqueued_at=now)
        Work.objects.filter(id__in=ended).update(lease_expires_at=now + _expiry())
        # A dead worker's lease becomes a plain wait: sent again now, and again if the broker loses that too.
        dead = [row.id for row in rows if row.lease_expires_at is not None and row.state == WorkState.PENDING]
        Work.objects.filter(id__in=dead).update(lease_expires_at=None, owner="", enqueued_at=now)
    return [(row.id, row.tenant.ref, row.state, row.attempt) for row in rows]


def measure() -> None:
    """Set the gauges of the work table."""
    with tenancy.in_platform():
        counted = Work.objects.aggregate(
            pending=Count("id", filter=Q(state=WorkState.PENDING)),
            settled=Count("id", filter=Q(state=WorkState.SETTLED)),
            oldest=Min("created_at"),
        )
    for state in WorkState.values:
        metrics.WORK.labels(state).set(counted[state])
    oldest = counted["oldest"]
    metrics.WORK_AGE.set((timezone.now() - oldest).total_seconds() if oldest else 0)
