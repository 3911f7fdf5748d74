"""What a tenant has used in a month, by its books."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

from django.db.models import Count, Q
from django.utils import timezone

from billing import months, plans
from billing.models import CALLED, LedgerEntry
from billing.services import budgets
from billing.vocabulary import EntryKind
from conversations.services import holds
from tenants import throttling
from tenants.selectors import TenantState


def of_month(state: TenantState, month: date | None = None) -> dict[str, Any]:
    """The public usage document of a tenant's month (by its first day, UTC; this one by default)."""
    configuration = state.configuration
    start = month or timezone.now().date().replace(day=1)
    holds.return_dead()
    spent, held = budgets.of_month(start)
    counted = LedgerEntry.objects.filter(day__gte=start, day__lt=months.after(start)).aggregate(
        calls=Count("pk", filter=CALLED),
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
