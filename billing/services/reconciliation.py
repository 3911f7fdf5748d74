"""The ledger of all tenants against what a provider says that was used."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import structlog
from django.db.models import Count, DateField, F, Q, Sum
from django.db.models.functions import TruncDate

from billing.exports import Export, Used, family
from billing.models import CALLED, LedgerEntry
from billing.vocabulary import EntryKind
from chatplatform import tenancy
from chatplatform.api.problem import invalid
from chatplatform.observability import metrics
from tenants.models import Tenant

log = structlog.get_logger("billing.reconciliation")
MEASURES = ("input_tokens", "output_tokens", "usd")
# A call is counted on the day that its message was accepted, the provider counts it when it was made: a little later.
LATER = timedelta(days=7)
Key = tuple[date, str]


@dataclass(slots=True)
class Sums:
    """What came together for a model on a day; None where nothing was said of it."""

    input_tokens: Decimal | None = None
    output_tokens: Decimal | None = None
    usd: Decimal | None = None
    slack: Decimal = Decimal(0)
    estimated: int = 0  # calls whose usage we counted ourselves

    def add(self, **more: Any) -> None:
        for name, value in more.items():
            if value is not None:
                setattr(self, name, (getattr(self, name) or 0) + value)


@dataclass(frozen=True, slots=True)
class Difference:
    """One measure of a model on a day (or of all of them): ours, theirs, and whether they are too far apart."""

    day: date | None
    model: str
    measure: str
    ours: Decimal
    theirs: Decimal
    estimated: int
    over: bool

    @property
    def difference(self) -> Decimal:
        return self.ours - self.theirs

    @property
    def ratio(self) -> Decimal:
        """Of the larger one: 0 to 1."""
        largest = max(abs(self.ours), abs(self.theirs))
        return abs(self.difference) / largest if largest else Decimal(0)


@dataclass(frozen=True, slots=True)
class Report:
    first: date
    last: date
    rows: list[Difference] = field(default_factory=list)
    totals: list[Difference] = field(default_factory=list)

    @property
    def over(self) -> list[Difference]:
        return [row for row in self.rows if row.over]


def days_of(export: Export, month: tuple[date, date] | None) -> tuple[date, date]:
    """The days to compare: the month's, or all that the export covers. Raises Problem."""
    if month:
        return month
    if not export.days:
        raise invalid("file", "There is nothing in this export.")
    return min(export.days), max(export.days)


def compare(
    provider: str, export: Export, days: tuple[date, date], bound: Decimal, tenants: Iterable[Tenant]
) -> Report:
    """The ledger against the export, per day and model. What is over the bound is logged and counted."""
    used = [row for row in export.rows if days[0] <= row.day <= days[1]]
    by_model = any(row.model for row in used)  # an export that was not grouped by model has only sums
    theirs = _theirs(used, by_model)
    ours = _ours(provider, days, export.kinds, by_model, tenants)
    measures = [name for name in MEASURES if any(getattr(row, name) is not None for row in export.rows)]
    keys = sorted(set(theirs) | set(ours))
    rows = [_difference(key, name, ours, theirs, bound) for key in keys for name in measures]
    report = Report(*days, [row for row in rows if row.ours or row.theirs])
    report.totals.extend(_total(name, report.rows, bound) for name in measures)
    _tell(provider, report)
    return report


def _theirs(used: Iterable[Used], by_model: bool) -> dict[Key, Sums]:
    sums: dict[Key, Sums] = defaultdict(Sums)
    for row in used:
        key = row.day, family(row.model) if by_model else ""
        sums[key].add(
            input_tokens=row.input_tokens, output_tokens=row.output_tokens, usd=row.usd, slack=row.slack
        )
    return sums


def _ours(
    provider: str, days: tuple[date, date], kinds: set[EntryKind], by_model: bool, tenants: Iterable[Tenant]
) -> dict[Key, Sums]:
    sums: dict[Key, Sums] = defaultdict(Sums)
    for tenant in tenants:
        with tenancy.in_tenant(tenant.ref):
            for row in _called(provider, kinds, *days):
                key = row["made_on"], family(row["model"]) if by_model else ""
                sums[key].add(**{name: row[name] for name in (*MEASURES, "estimated")})
    return sums


def _called(provider: str, kinds: set[EntryKind], first: date, last: date) -> Any:
    """The current tenant's calls of these kinds, by the day (UTC) on which they were made."""
    wanted = {"provider": provider, "kind__in": kinds, "day__range": (first - LATER, last)}
    made = {"started_at__gte": _midnight(first), "started_at__lt": _midnight(last + timedelta(days=1))}
    return (
        LedgerEntry.objects.filter(CALLED, **wanted, **made)
        .annotate(made_on=TruncDate("started_at", output_field=DateField()))
        .order_by("made_on", "model")
        .values("made_on", "model")
        .annotate(
            input_tokens=Sum(F("input_tokens")),
            output_tokens=Sum(F("output_tokens")),
            usd=Sum("cost_usd"),
            estimated=Count("pk", filter=Q(estimated=True)),
        )
    )


def _difference(
    key: Key, measure: str, ours: dict[Key, Sums], theirs: dict[Key, Sums], bound: Decimal
) -> Difference:
    mine, other = ours.get(key, Sums()), theirs.get(key, Sums())
    values = Decimal(getattr(mine, measure) or 0), Decimal(getattr(other, measure) or 0)
    found = Difference(*key, measure, *values, mine.estimated, over=False)
    rounded = abs(found.difference) <= other.slack if measure == "usd" else False
    over = found.ratio > bound and not rounded
    return Difference(*key, measure, *values, mine.estimated, over)


def _total(measure: str, rows: Iterable[Difference], bound: Decimal) -> Difference:
    mine = [row for row in rows if row.measure == measure]
    values = sum((row.ours for row in mine), Decimal(0)), sum((row.theirs for row in mine), Decimal(0))
    estimated = sum(row.estimated for row in mine)
    total = Difference(None, "", measure, *values, estimated, over=False)
    return Difference(None, "", measure, *values, estimated, total.ratio > bound)


def _tell(provider: str, report: Report) -> None:
    metrics.RECONCILED_OVER.labels(provider).set(len(report.over))
    for total in report.totals:
        metrics.RECONCILED_DIFFERENCE.labels(provider, total.measure).set(float(total.ratio))
    if report.over:
        log.error(
            "usage_differs",
            provider=provider,
            first=f"{report.first}",
            last=f"{report.last}",
            over=len(report.over),
            totals={total.measure: str(total.difference) for total in report.totals},
        )


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
