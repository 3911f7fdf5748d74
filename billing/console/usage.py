"""What the tenant uses: this month at a glance, and each month by day and model."""

from __future__ import annotations

from datetime import date

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone

from billing import months, selectors
from billing.access import access_spending
from billing.chart import MEASURES, chart
from tenants.console.frame import Visit, page
from tenants.vocabulary import Action


@page(None)
def overview(visit: Visit) -> HttpResponseBase:
    """The first page: what the member may see of how things stand."""
    spending = None
    if visit.may(Action.VIEW_USAGE):
        spending = access_spending(visit.member, this_month())
    return visit.render(
        "overview",
        "console-overview",
        spending=spending,
        total=selectors.total(spending.rows) if spending else None,
    )


@page(Action.VIEW_USAGE)
def usage(visit: Visit) -> HttpResponseBase:
    """A month, by day and model."""
    month = asked_month(visit.request)
    spending = access_spending(visit.member, month)
    total = selectors.total(spending.rows)
    measure = asked_measure(visit.request, total)
    return visit.render(
        "usage",
        "console-usage",
        month=month,
        before=months.before(month),
        after=months.after(month) if month < this_month() else None,
        is_now=month == this_month(),
        meters=spending.meters,
        rows=spending.rows,
        total=total,
        models=selectors.by_model(spending.rows),
        measure=measure,
        chart=chart(spending.rows, spending.first, months.last_day(month), measure),
    )


def this_month() -> date:
    """The first of this month (UTC)."""
    return timezone.now().date().replace(day=1)


def asked_month(request: HttpRequest) -> date:
    """The month that `?month=2026-11` names; this one if it names none, or one that is not there yet."""
    try:
        return min(months.parse(request.GET.get("month", "")), this_month())
    except ValueError:
        return this_month()


def asked_measure(request: HttpRequest, total: selectors.Usage) -> str:
    """What the bars are to show: what `?by=` says, else the cost, if there is any."""
    asked = request.GET.get("by", "")
    if asked in MEASURES:
        return asked
    return "tokens" if total.tokens and not total.charged_usd else "cost"
