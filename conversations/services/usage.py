"""What a tenant has used in a month, by its books."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

from django.db.models import Count, Q
from django.utils import timezone

from billing import plans
from billing.models import LedgerEntry
from billing.services import budgets
from billing.vocabulary import CallOutcome, EntryKind
from chatplatform.api.problem import invalid
from conversations.services import holds
from tenants import throttling
from tenants.selectors import TenantState

MONTH = re.compile(r"(20\d{2})-(0[1-9]|1[0-2])")


def of_month(state: TenantState, month: str | None = None) -> dict[str, Any]:
    """The public usage document of a tenant's month (`YYYY-MM`, UTC; this one by default). Raises Problem."""
    configuration = state.configuration
    start = _start(month)
    holds.return_dead()
    spent, held = budgets.of_month(start)
    counted = LedgerEntry.objects.filter(day__gte=start, day__lt=_following(start)).aggregate(
        calls=Count("pk", filter=Q(kind=EntryKind.CALL) & ~Q(outcome=CallOutcome.SKIPPED)),
        hits=Count("pk", filter=Q(kind=EntryKind.CACHE_HIT)),
    )
    return {
        "period": f"{start:%Y-%m}",
        "tokens_used": spent.tokens,
        "api_calls": counted["calls"],
        "cache_hits": counted["hits"],
        "estimated_cost": f"{spent.usd:f}",
        "rate_limit_remaining": throttling.remaining(state),
        "budget": _budget(configuration.monthly_cost_budget_usd, spent.usd, held.usd, lambda usd: f"{usd:f}"),
        "token_budget": _budget(plans.monthly_tokens(state), spent.tokens, held.tokens, int),
    }


def _budget(limit: Any, spent: Any, held: Any, shown: Callable[[Any], str | int]) -> dict[str, Any]:
    remaining = None if limit is None else max(limit - spent - held, type(spent)(0))
    return {
        "limit": None if limit is None else shown(limit),
        "spent": shown(spent),
        "held": shown(held),
        "remaining": None if remaining is None else shown(remaining),
    }


def _start(month: str | None) -> date:
    match = MONTH.fullmatch(month) if month else None
    if month and not match:
        raise invalid("month", "A month such as 2026-11.")
    return date(int(match[1]), int(match[2]), 1) if match else timezone.now().date().replace(day=1)


def _following(month: date) -> date:
    return (month + timedelta(days=31)).replace(day=1)
