"""What an address asks a page about usage for."""

from __future__ import annotations

from datetime import date

from django.http import HttpRequest
from django.utils import timezone

from billing import months
from billing.chart import MEASURES
from billing.selectors import Usage


def this_month() -> date:
    """The first of this month (UTC)."""
    return timezone.now().date().replace(day=1)


def month(request: HttpRequest) -> date:
    """The month that `?month=2026-11` names; this one if it names none, or one that is not there yet."""
    try:
        return min(months.parse(request.GET.get("month", "")), this_month())
    except ValueError:
        return this_month()


def measure(request: HttpRequest, total: Usage) -> str:
    """What the bars are to show: what `?by=` says, else the cost, if there is any."""
    asked = request.GET.get("by", "")
    if asked in MEASURES:
        return asked
    return "tokens" if total.tokens and not total.charged_usd else "cost"
