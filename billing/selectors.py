"""Reading the ledger, balances and holds. To be called inside a tenant, or in the staff's view of one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db.models import Count, Q, QuerySet, Sum
from django.utils import timezone

from billing import months, plans
from billing.models import CALLED, NOBODY, Balance, Hold, LedgerEntry
from billing.vocabulary import BudgetLevel, CallOutcome, EntryKind
from chatplatform import csv_table
from chatplatform.jobs import in_thread
from chatplatform.tenancy import Scope
from tenants.selectors import TenantState

Inside = Callable[[], AbstractContextManager[Scope]]
HITS = Q(kind=EntryKind.CACHE_HIT)
NOTHING = Decimal(0)
SUMS: dict[str, Any] = {
    "calls": Count("pk", filter=CALLED),
    "cache_hits": Count("pk", filter=HITS),
    "input_tokens": Sum("input_tokens", filter=CALLED, default=0),
    "cached_input_tokens": Sum("cached_input_tokens", filter=CALLED, default=0),
    "output_tokens": Sum("output_tokens", filter=CALLED, default=0),
    "cost_usd": Sum("cost_usd", default=NOTHING),
    "charged_usd": Sum("charged_usd", default=NOTHING),
    "saved_usd": Sum("saved_usd", default=NOTHING),
}
PAGE, CHUNK = 50, 5_000
COLUMNS = (
    "id",
    "day",
    "started_at",
    "reply",
    "conversation",
    "contact",
    "document",
    "attempt",
    "sequence",
    "kind",
    "outcome",
    "error",
    "provider",
    "model",
    "input_tokens",
    "cached_input_tokens",
    "cache_write_input_tokens",
    "output_tokens",
    "estimated",
    "input_price",
    "cached_input_price",
    "cache_write_price",
    "output_price",
    "markup_percent",
    "cost_usd",
    "charged_usd",
    "saved_usd",
)


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used: US dollars, calls to providers, tokens. `cost_usd` is ours, `charged_usd` the tenant's."""

    calls: int = 0
    cache_hits: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal = NOTHING
    charged_usd: Decimal = NOTHING
    saved_usd: Decimal = NOTHING

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(**{name: getattr(self, name) + getattr(other, name) for name in SUMS})


@dataclass(frozen=True, slots=True)
class DayUsage:
    """What one model was used for on one day (UTC)."""

    day: date
    provider: str
    model: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class Meter:
    """A budget and how far it is used up; `limit` None is no limit. US dollars or tokens."""

    limit: Decimal | int | None
    spent: Decimal | int
    held: Decimal | int

    @property
    def left(self) -> Decimal | int | None:
        return None if self.limit is None else max(self.limit - self.spent - self.held, 0)

    @property
    def percent(self) -> int | None:
        """Spent and held, of the limit; at most 100."""
        if self.limit is None:
            return None
        used = self.spent + self.held
        return min(int(used * 100 / self.limit), 100) if self.limit else 100


@dataclass(frozen=True, slots=True)
class Meters:
    """A tenant's budgets as they stand."""

    month: Meter
    day: Meter
    tokens: Meter


@dataclass(frozen=True, slots=True)
class LedgerFilter:
    """Which entries of the ledger; days are both included, empty is all. `before` and `after` are ids, to page by."""

    first: date
    last: date
    provider: str = ""
    model: str = ""
    outcome: str = ""
    estimated: bool | None = None
    reply: UUID | None = None
    before: UUID | None = None
    after: UUID | None = None


@dataclass(frozen=True, slots=True)
class LedgerPage:
    """Entries, newest first, what all that match come to, and where the neighbouring pages begin (None: nowhere)."""

    entries: Sequence[LedgerEntry]
    total: Usage
    count: int
    older: UUID | None
    newer: UUID | None


# --- Sums ----------------------------------------------------------------------------------------------------------
def daily(first: date, last: date) -> Any:
    """The sums of each day and model as dicts, the oldest first; models that were only skipped are left out."""
    return (
        LedgerEntry.objects.filter(day__range=(first, last))
        .exclude(outcome=CallOutcome.SKIPPED)
        .order_by("day", "provider", "model")
        .values("day", "provider", "model")
        .annotate(**SUMS)
    )


def by_day_and_model(first: date, last: date) -> list[DayUsage]:
    """The same, as objects."""
    return [
        DayUsage(row["day"], row["provider"], row["model"], Usage(**{name: row[name] for name in SUMS}))
        for row in daily(first, last)
    ]


def by_model(rows: Iterable[DayUsage]) -> list[tuple[str, Usage]]:
    """What each model came to, the dearest first."""
    sums: dict[str, Usage] = {}
    for row in rows:
        name = f"{row.provider}/{row.model}"
        sums[name] = sums.get(name, Usage()) + row.usage
    return sorted(sums.items(), key=lambda one: (-one[1].charged_usd, -one[1].tokens, one[0]))


def total(rows: Iterable[DayUsage]) -> Usage:
    """All of it."""
    return sum((row.usage for row in rows), Usage())


def meters(state: TenantState, today: date | None = None) -> Meters:
    """The tenant's own budgets of this month and day (UTC), as the balances have them."""
    configuration, today = state.configuration, today or timezone.now().date()
    month = today.replace(day=1)
    wanted = Q(level=BudgetLevel.TENANT_MONTH, period=month) | Q(level=BudgetLevel.TENANT_DAY, period=today)
    found = {row.level: row for row in Balance.objects.filter(wanted, subject=NOBODY)}
    of_month = found.get(BudgetLevel.TENANT_MONTH, Balance())
    of_day = found.get(BudgetLevel.TENANT_DAY, Balance())
    return Meters(
        month=Meter(configuration.monthly_cost_budget_usd, of_month.spent_usd, of_month.held_usd),
        day=Meter(configuration.daily_cost_budget_usd, of_day.spent_usd, of_day.held_usd),
        tokens=Meter(plans.monthly_tokens(state), of_month.spent_tokens, of_month.held_tokens),
    )


# --- The ledger ----------------------------------------------------------------------------------------------------
def matching(wanted: LedgerFilter) -> QuerySet[LedgerEntry]:
    """The entries that match, whatever the page; version 7 ids are in the order of writing."""
    entries = LedgerEntry.objects.filter(day__range=(wanted.first, wanted.last)).order_by("-id")
    for name in ("provider", "model", "reply", "estimated"):
        if (value := getattr(wanted, name)) not in ("", None):
            entries = entries.filter(**{name: value})
    if wanted.outcome == EntryKind.CACHE_HIT:
        return entries.filter(HITS)
    return entries.filter(~HITS, outcome=wanted.outcome) if wanted.outcome else entries


def ledger_page(wanted: LedgerFilter) -> LedgerPage:
    """A page of the ledger."""
    entries = matching(wanted)
    sums = entries.order_by().aggregate(count=Count("pk"), **SUMS)
    count = sums.pop("count")
    if wanted.after:
        rows = list(entries.filter(id__gt=wanted.after).order_by("id")[: PAGE + 1])
        more_newer, rows = len(rows) > PAGE, rows[:PAGE][::-1]
        more_older = bool(rows) and entries.filter(id__lt=rows[-1].id).exists()
    else:
        rows = list((entries.filter(id__lt=wanted.before) if wanted.before else entries)[: PAGE + 1])
        more_older, rows = len(rows) > PAGE, rows[:PAGE]
        more_newer = bool(wanted.before and rows) and entries.filter(id__gt=rows[0].id).exists()
    older = rows[-1].id if rows and more_older else None
    return LedgerPage(rows, Usage(**sums), count, older, rows[0].id if rows and more_newer else None)


def used_models(first: date, last: date) -> list[tuple[str, str]]:
    """Provider and name of every model in the ledger of these days."""
    found = LedgerEntry.objects.filter(day__range=(first, last)).order_by("provider", "model")
    return list(found.values_list("provider", "model").distinct()[:200])


async def ledger_csv(wanted: LedgerFilter, inside: Inside) -> AsyncIterator[bytes]:
    """All matching entries as a table, in pieces, newest first.

    `inside` makes the context to read them in: the pieces are read after the view has answered.
    """
    yield csv_table.text([COLUMNS]).encode()
    last: UUID | None = None
    while rows := await in_thread(_chunk, wanted, inside, last):
        yield csv_table.text(rows).encode()
        last = rows[-1][0]


def _chunk(wanted: LedgerFilter, inside: Inside, last: UUID | None) -> list[Any]:
    with inside():
        entries = matching(wanted)
        return list((entries.filter(id__lt=last) if last else entries).values_list(*COLUMNS)[:CHUNK])


# --- Holds ---------------------------------------------------------------------------------------------------------
def holds() -> QuerySet[Hold]:
    """What is held now, the oldest first."""
    return Hold.objects.order_by("taken_at")


def held() -> dict[str, Any]:
    """What all holds come to: `count`, `usd`, `tokens`."""
    return Hold.objects.aggregate(
        count=Count("pk"), usd=Sum("usd", default=NOTHING), tokens=Sum("tokens", default=0)
    )


def bounds(month: date, today: date | None = None) -> tuple[date, date]:
    """The first and the last day of a month, or today if it is not over."""
    today = today or timezone.now().date()
    return month, max(min(months.last_day(month), today), month)
