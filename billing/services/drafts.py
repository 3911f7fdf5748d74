"""What an invoice would say: out of the ledger and the plans in force."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Count, F, Sum

from billing import months, plans
from billing.amounts import Line, Span, Sums, Usage, lines_of, sums
from billing.models import CALLED, BillingAccount, Issuer, LedgerEntry, Plan, PlanVersion, Subscription
from chatplatform import tenancy
from chatplatform.api.problem import invalid
from tenants.models import Tenant


@dataclass(frozen=True, slots=True)
class Draft:
    """An invoice that nobody has numbered."""

    tenant: Tenant
    month: date
    account: BillingAccount
    issuer: Issuer
    lines: Sequence[Line]
    spans: Sequence[Span]

    @property
    def sums(self) -> Sums:
        return sums((line.amount for line in self.lines), self.account.tax_percent)


def draft(tenant: Tenant, month: date) -> Draft | None:
    """What the tenant's invoice of a month comes to; None if there is nothing to say. Raises Problem.

    Of a month that is not over it is what has come together so far.
    """
    with tenancy.in_platform():
        account = BillingAccount.objects.filter(tenant=tenant).first() or BillingAccount(tenant=tenant)
        issuer = account.issuer or Issuer.objects.filter(is_default=True).first()
        spans = spans_of(tenant, month)
    if issuer is None:
        raise invalid("issuer", "There is no issuer: add one in the console, and make it the default.")
    with tenancy.in_tenant(tenant.ref):
        lines = [line for span in spans for line in lines_of(span, usage_in(span.starts, span.ends))]
    return Draft(tenant, month, account, issuer, lines, spans) if lines else None


def spans_of(tenant: Tenant, month: date) -> list[Span]:
    """The tenant's plans in a month, from the day of its birth on, day by day. Raises Problem."""
    first, last = max(month, tenant.created_at.date()), months.last_day(month)
    if first > last:
        return []
    begun = Subscription.objects.filter(tenant=tenant, starts__gt=first, starts__lte=last)
    changes = {first: _plan_on(tenant, first)}
    changes |= {one.starts: one.plan for one in begun.select_related("plan").order_by("starts")}
    spans = [
        span for start, end in _between(changes, last) for span in _as_it_was(changes[start], start, end)
    ]
    return _joined(spans)


def _between(starts: Iterable[date], last: date) -> Iterator[tuple[date, date]]:
    """The first and the last day of each, in their order: each ends where the next one begins."""
    first = list(starts)
    return zip(first, [day - timedelta(days=1) for day in first[1:]] + [last], strict=True)


def _as_it_was(plan: Plan, first: date, last: date) -> list[Span]:
    """A plan with what it charged on these days. Changes of today do not reach back."""
    versions = {
        max(one.starts, first): one for one in plan.versions.filter(starts__lte=last).order_by("starts")
    }
    if not versions:
        return [Span(plan, first, last)]
    return [Span(_charging(plan, versions[start]), start, end) for start, end in _between(versions, last)]


def _charging(plan: Plan, version: PlanVersion) -> Plan:
    """A copy of a plan, not to be saved."""
    as_it_was = copy(plan)
    for name, value in version.charges.items():
        setattr(as_it_was, name, value)
    return as_it_was


def usage_in(first: date, last: date) -> list[Usage]:
    """What the current tenant's ledger says about these days, per provider and model."""
    rows: Any = (
        LedgerEntry.objects.filter(day__range=(first, last))
        .order_by("provider", "model")
        .values("provider", "model")
        .annotate(
            calls=Count("pk", filter=CALLED),
            tokens=Sum(F("input_tokens") + F("output_tokens"), filter=CALLED, default=0),
            charged=Sum("charged_usd", default=Decimal(0)),
        )
    )
    return [Usage(**row) for row in rows if row["calls"] or row["charged"]]


def _plan_on(tenant: Tenant, day: date) -> Plan:
    try:
        return plans.plan_on(tenant, day)
    except Plan.DoesNotExist as error:
        raise invalid(
            "plan", f"{tenant.slug} has no plan, and there is none for the tier {tenant.tier}."
        ) from error


def _joined(spans: Any) -> list[Span]:
    """Spans of the same plan that follow each other are one."""
    joined: list[Span] = []
    for span in spans:
        if joined and joined[-1].plan == span.plan and joined[-1].plan.charges == span.plan.charges:
            joined[-1] = Span(span.plan, joined[-1].starts, span.ends)
        else:
            joined.append(span)
    return joined
