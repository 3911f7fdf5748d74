"""Who is at work on which reply. The lease is in the shared work table, the attempt's number fences everything.

A lease is taken by `statements.begin`. Its expiry is told by one clock, PostgreSQL's: two hosts never agree to the
second, and one that is ahead would take over what another one is still at.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Collection
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import router
from django.db.models import Count, F, Min, Q
from django.utils import timezone

from chatplatform import tenancy
from chatplatform.observability import metrics
from chatplatform.postgres.prepared import Statement
from chatplatform.tenancy import TenantRef
from conversations.models import Work
from conversations.models.work import WorkState

OWNER = f"{socket.gethostname()[:40]}:{os.getpid()}:{uuid.uuid4().hex[:8]}"

RENEW = Statement("""
UPDATE conversations_work SET lease_expires_at = statement_timestamp() + make_interval(secs => %(seconds)s)
WHERE id = ANY(%(replies)s) AND owner = %(owner)s AND state = 'pending'
RETURNING id, cancel_requested
""")
# A dead worker's lease becomes a plain wait: its job is sent now, and again if the broker loses that too. Whoever finds
# a row claims it for one lease period, so that two that look at once do not both send it. A job that may still be in a
# queue is sent again only when it has waited as long once more as it had when it was sent last, or `most`.
ORPHANS = Statement("""
WITH lost AS MATERIALIZED (
    SELECT id FROM conversations_work
    WHERE lease_expires_at < statement_timestamp()
        OR lease_expires_at IS NULL AND enqueued_at < statement_timestamp() - greatest(
            make_interval(secs => %(seconds)s), least(make_interval(secs => %(most)s), enqueued_at - created_at))
    ORDER BY enqueued_at LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
)
UPDATE conversations_work AS work
SET owner = '', enqueued_at = statement_timestamp(),
    lease_expires_at = CASE WHEN state = 'settled'
        THEN statement_timestamp() + make_interval(secs => %(seconds)s) END
FROM lost, tenants_tenant AS tenant
WHERE work.id = lost.id AND tenant.id = work.tenant_id
RETURNING work.id, tenant.id, tenant.slug, tenant.schema_name, tenant.database, work.state,
    work.attempt - work.handed_back
""")
AGAIN_AT_LEAST_EVERY = 60.0  # s


def renew(replies: Collection[UUID]) -> tuple[set[UUID], set[UUID]]:
    """Renew this worker's leases in one statement. Returns those still held, and of them those to be cancelled."""
    values = {"seconds": settings.LEASE_SECONDS, "replies": list(replies), "owner": OWNER}
    held: dict[UUID, bool] = dict(_rows(RENEW, values))
    return set(held), {reply_id for reply_id, cancelled in held.items() if cancelled}


def done(replies: Collection[UUID]) -> None:
    """Their last events are out: nothing is left to do."""
    with tenancy.in_platform():
        # Nothing refers to a work row: no need to look for it first, as delete() does.
        Work.objects.filter(id__in=replies)._raw_delete(router.db_for_write(Work) or "default")


def orphans(limit: int = 500, *, backlog: bool = False) -> list[tuple[UUID, TenantRef, str, int]]:
    """Work nobody is at: lost by the broker, left by a dead worker, or settled without its last event.

    Each is (reply id, tenant, state, attempts that died or are under way). Safe to run twice at once. `backlog`: jobs
    wait in the broker's queue, so that one that nobody has begun need not be lost.
    """
    most = AGAIN_AT_LEAST_EVERY if backlog else 0
    found = _rows(ORPHANS, {"seconds": settings.LEASE_SECONDS, "most": most, "limit": limit})
    return [(row[0], TenantRef(*row[1:5]), row[5], row[6]) for row in found]


def not_sent(replies: Collection[UUID]) -> None:
    """The broker was away: what was to be sent has not begun to wait there."""
    with tenancy.in_platform():
        Work.objects.filter(id__in=replies, lease_expires_at=None).update(enqueued_at=F("created_at"))


def _rows(statement: Statement, values: dict[str, Any]) -> list[Any]:
    with tenancy.in_platform():
        return statement.run(values, router.db_for_write(Work) or "default")


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
