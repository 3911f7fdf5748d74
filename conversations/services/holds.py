"""Holds of attempts that died are given back, once no call of theirs can be under way any more.

A worker that was killed settles nothing. Its reply ends by another attempt, with a hold of its own; what the dead one
held stays until the longest time that a call may take is over, for a worker that was only paused may still be at it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import structlog
from django.conf import settings
from django.db import connections, router

from billing.models import Hold
from billing.services import budgets
from billing.services.budgets import Account
from chatplatform import tenancy
from chatplatform.jobs import close_connections
from chatplatform.observability.metrics import BUDGET_RETURNED
from tenants.models import Tenant
from tenants.vocabulary import TenantStatus

log = structlog.get_logger("conversations.holds")
SLACK = 30.0  # s from the end of a call's time until nobody can settle it any more
DEAD = """
SELECT hold.reply, hold.attempt, hold.conversation, hold.contact, hold.day
FROM billing_hold AS hold LEFT JOIN conversations_reply AS reply ON reply.message_id = hold.reply
WHERE (reply.message_id IS NULL OR reply.attempt > hold.attempt OR reply.status NOT IN ('queued', 'generating'))
    AND greatest(hold.taken_at, reply.started_at, reply.completed_at)
        < statement_timestamp() - make_interval(secs => %(seconds)s)
ORDER BY hold.id LIMIT 1000
"""


def return_dead(after: float | None = None) -> int:
    """Give back the dead holds of the current tenant; how many these were. Safe to run twice at once.

    Dead is what belongs to an attempt that is over, `after` seconds since that.
    """
    dead = _dead(after)
    for account in dead:
        budgets.settle(account)
    if dead:
        BUDGET_RETURNED.inc(len(dead))
        log.info("dead_holds_returned", holds=len(dead))
    return len(dead)


def _dead(after: float | None = None) -> list[Account]:
    seconds = settings.TOTAL_TIMEOUT + SLACK if after is None else after
    with connections[router.db_for_write(Hold) or "default"].cursor() as cursor:
        cursor.execute(DEAD, {"seconds": seconds})
        return [Account(*row) for row in cursor.fetchall()]


def return_dead_apart() -> int:
    """`return_dead` for a caller that may be in a transaction: over another connection, if there are any.

    Within the transaction the balances of the tenant would stay locked while it goes on to lock those of a
    conversation, against the order that everybody keeps; and what is counted here could be rolled back.
    """
    using = router.db_for_write(Hold) or "default"
    if not connections[using].in_atomic_block:
        return return_dead()
    if not _dead():
        return 0
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(copy_context().run, _return_and_leave).result()


def _return_and_leave() -> int:
    try:
        return return_dead()
    finally:
        close_connections()


def return_all_dead(after: float | None = None) -> int:
    """The same for all tenants that are served."""
    returned = 0
    with tenancy.in_platform():
        tenants = [tenant.ref for tenant in Tenant.objects.exclude(status=TenantStatus.REQUESTED)]
    for tenant in tenants:
        try:
            with tenancy.in_tenant(tenant):
                returned += return_dead(after)
        except Exception as error:  # one that is being born or erased must not keep the others waiting
            log.warning("holds_not_returned", slug=tenant.slug, error=type(error).__name__)
    return returned
