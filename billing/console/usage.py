"""What the tenant uses: this month at a glance, and each month by day and model."""

from __future__ import annotations

from django.http.response import HttpResponseBase

from billing import asked, months, selectors
from billing.access import access_spending
from billing.chart import chart
from billing.selectors import Meter
from billing.vocabulary import UsageBilling
from tenants.console.frame import Visit, page
from tenants.terms import Terms
from tenants.vocabulary import Action


@page(None)
def overview(visit: Visit) -> HttpResponseBase:
    """The first page: what the member may see of how things stand."""
    spending = None
    if visit.may(Action.VIEW_USAGE):
        spending = access_spending(visit.member, asked.this_month())
    return visit.render(
        "overview",
        "console-overview",
        spending=spending,
        total=selectors.total(spending.rows) if spending else None,
    )


@page(Action.VIEW_USAGE)
def usage(visit: Visit) -> HttpResponseBase:
    """A month, by day and model."""
    month = asked.month(visit.request)
    spending = access_spending(visit.member, month)
    total = selectors.total(spending.rows)
    measure = asked.measure(visit.request, total)
    terms = visit.tenant.terms
    return visit.render(
        "usage",
        "console-usage",
        month=month,
        terms=terms,
        by_tokens=terms.usage_billing == UsageBilling.TOKENS,
        included=_included(terms, spending.meters.tokens),
        before=months.before(month),
        after=months.after(month) if month < asked.this_month() else None,
        is_now=month == asked.this_month(),
        meters=spending.meters,
        rows=spending.rows,
        total=total,
        models=selectors.by_model(spending.rows),
        measure=measure,
        chart=chart(spending.rows, spending.first, months.last_day(month), measure),
    )


def _included(terms: Terms, tokens: Meter) -> Meter | None:
    """How far the tokens are used up that the plan includes, where it sells more of them: else they are the limit."""
    if terms.usage_billing != UsageBilling.TOKENS or terms.overage_price is None:
        return None
    return Meter(terms.included_tokens, tokens.spent, tokens.held)
