"""What a tenant has used this month, from its replies."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.db.models import Count, F, Q, Sum
from django.utils import timezone

from chatplatform.api.problem import invalid
from conversations.models import Reply
from tenants import throttling
from tenants.selectors import TenantState

MONTH = re.compile(r"(20\d{2})-(0[1-9]|1[0-2])")


def of_month(state: TenantState, month: str | None = None) -> dict[str, Any]:
    """The public usage document of a tenant's month (`YYYY-MM`, UTC; this one by default). Raises Problem."""
    configuration = state.configuration
    start, end = _bounds(month)
    counted = Reply.objects.filter(created_at__gte=start, created_at__lt=end).aggregate(
        tokens=Sum(F("input_tokens") + F("output_tokens"), default=0),
        calls=Sum("attempt", default=0),
        hits=Count("pk", filter=~Q(cache="")),
        cost=Sum("cost_usd", default=Decimal(0)),
    )
    cost, tokens = counted["cost"], counted["tokens"]
    return {
        "period": f"{start:%Y-%m}",
        "tokens_used": tokens,
        "api_calls": counted["calls"],
        "cache_hits": counted["hits"],
        "estimated_cost": f"{cost:f}",
        "rate_limit_remaining": throttling.remaining(state),
        "budget": _budget(configuration.monthly_cost_budget_usd, cost, lambda usd: f"{usd:f}"),
        "token_budget": _budget(configuration.monthly_token_budget, tokens, int),
    }


def _budget(limit: Any, spent: Any, shown: Any) -> dict[str, Any]:
    remaining = None if limit is None else max(limit - spent, type(spent)(0))
    return {
        "limit": None if limit is None else shown(limit),
        "spent": shown(spent),
        "held": shown(type(spent)(0)),
        "remaining": None if remaining is None else shown(remaining),
    }


def _bounds(month: str | None) -> tuple[datetime, datetime]:
    match = MONTH.fullmatch(month) if month else None
    if month and not match:
        raise invalid("month", "A month such as 2026-11.")
    now = timezone.now()
    year, number = (int(match[1]), int(match[2])) if match else (now.year, now.month)
    following = (year + 1, 1) if number == 12 else (year, number + 1)
    return datetime(year, number, 1, tzinfo=UTC), datetime(*following, 1, tzinfo=UTC)
