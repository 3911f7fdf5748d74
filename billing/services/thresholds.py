"""Tells once, in each period, when half, four fifths and all of a tenant's limit are spent; again if it is changed.

Looked at when a reply is settled, from what the settlement says of the balances: no query, until a threshold is
reached that this process does not know of yet. What is spent hardly ever meets a limit exactly, for the last call that
does not fit is refused: so the first refusal counts as all of it, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from threading import Lock
from typing import Any

import structlog
from cachetools import LRUCache
from django.conf import settings
from django.core.mail import send_mail

from billing.models import BudgetNotice
from billing.services.budgets import Limits, Settled
from billing.signals import budget_threshold_reached
from billing.vocabulary import BudgetLimit
from chatplatform import jobs
from chatplatform.observability.metrics import BUDGET_THRESHOLDS
from chatplatform.tenancy import current_tenant
from tenants import selectors

log = structlog.get_logger("billing.thresholds")
MAIL, TELL = "billing.mail_threshold", "billing.tell_refusal"
ALL = 100
PERCENTS = (50, 80, ALL)
_told: LRUCache[tuple[Any, ...], bool] = LRUCache(100_000)
_lock = Lock()


@dataclass(frozen=True, slots=True)
class Reached:
    """So much of a limit is spent. `period` is its first day."""

    limit: BudgetLimit
    period: date
    percent: int
    spent: Decimal | int
    of: Decimal | int


def note(day: date, limits: Limits, settled: Settled) -> None:
    """Tell of every threshold that was reached by what was settled now, and that nobody was told of. Never fails."""
    for reached in untold(day, limits, settled):
        try:
            tell_once(reached)
        except Exception:  # the reply is settled; the next one comes by here again
            log.exception("threshold_not_told", limit=str(reached.limit), percent=reached.percent)
            continue
        _remember(reached)


def untold(day: date, limits: Limits, settled: Settled) -> list[Reached]:
    """The thresholds that are reached, as far as this process does not know them for told. Touches no database."""
    return [reached for reached in _reached(day, limits, settled) if not _knows(reached)]


def note_refusal(limit: BudgetLimit, day: date, spent: Decimal | int, of: Decimal | int) -> None:
    """Have a limit told as reached, because a call was refused by it. Never fails.

    By a job, for whoever refuses may roll back all that it wrote, and has no time to spare.
    """
    period = day if limit == BudgetLimit.DAILY_COST else day.replace(day=1)
    reached = Reached(limit, period, ALL, spent, of)
    if not _knows(reached) and jobs.enqueue(TELL, *_as_told(reached), tenant=current_tenant()):
        _remember(reached)


def tell_once(reached: Reached) -> None:
    """Tell of a threshold, unless that was done in this period. What an older release told is not told again."""
    threshold: dict[str, Any] = {
        "limit": reached.limit, "period": reached.period, "percent": reached.percent
    }  # fmt: skip
    if BudgetNotice.objects.filter(**threshold, of=None).exists():
        return
    _, new = BudgetNotice.objects.get_or_create(**threshold, of=reached.of)
    if new:
        _tell(reached)


def read(limit: str, percent: int, spent: str, of: str, period: str) -> Reached:
    """What a job was told."""
    return Reached(BudgetLimit(limit), date.fromisoformat(period), percent, Decimal(spent), Decimal(of))


def _as_told(reached: Reached) -> list[Any]:
    return [str(reached.limit), reached.percent, str(reached.spent), str(reached.of), str(reached.period)]


def _key(reached: Reached) -> tuple[Any, ...]:
    return current_tenant().id, reached.limit, reached.period, reached.percent, reached.of


def _knows(reached: Reached) -> bool:
    with _lock:
        return _key(reached) in _told


def _remember(reached: Reached) -> None:
    with _lock:
        _told[_key(reached)] = True


def _reached(day: date, limits: Limits, settled: Settled) -> Iterator[Reached]:
    month = day.replace(day=1)
    for limit, period, spent, of in (
        (BudgetLimit.DAILY_COST, day, settled.day_usd, limits.tenant_day),
        (BudgetLimit.MONTHLY_COST, month, settled.month_usd, limits.tenant_month),
        (BudgetLimit.MONTHLY_TOKENS, month, settled.month_tokens, limits.tenant_month_tokens),
    ):
        if of and spent is not None:
            yield from (Reached(limit, period, one, spent, of) for one in PERCENTS if spent * 100 >= of * one)


def _tell(reached: Reached) -> None:
    tenant = current_tenant()
    log.warning(
        "budget_threshold_reached",
        slug=tenant.slug,
        limit=str(reached.limit),
        percent=reached.percent,
        spent=str(reached.spent),
        of=str(reached.of),
    )
    BUDGET_THRESHOLDS.labels(str(reached.limit), reached.percent).inc()
    budget_threshold_reached.send_robust(
        BudgetNotice, tenant=tenant, limit=reached.limit, percent=reached.percent, spent=reached.spent,
        of=reached.of, period=reached.period,
    )  # fmt: skip
    jobs.enqueue_on_commit(MAIL, *_as_told(reached), tenant=tenant)


def mail(limit: str, percent: int, spent: str, of: str, period: str) -> bool:
    """Mail the current tenant's people, and the platform's; False if there is no address."""
    state = selectors.state(current_tenant().id)
    addresses = [one for one in (state.configuration.escalation_email, settings.STAFF_EMAIL) if one]
    if not addresses:
        return False
    what = BudgetLimit(limit).label.lower()
    send_mail(
        f"{state.name}: a budget is used up"
        if percent == ALL
        else f"{state.name}: {percent} % of a budget is spent",
        f"Of the budget for {what} (from {period}), {spent} of {of} is spent.\n"
        "A message that could cost more than is left is not accepted.\n",
        settings.DEFAULT_FROM_EMAIL,
        addresses,
    )
    return True
