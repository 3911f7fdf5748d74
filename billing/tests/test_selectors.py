"""Sums, filters and pages of the ledger, and how budgets stand."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from hypothesis import given
from hypothesis import strategies as some

from billing import selectors
from billing.chart import HEIGHT, TOP, chart, scale, short
from billing.models import Balance
from billing.presentation import exact_usd, usd
from billing.selectors import DayUsage, LedgerFilter, Meter, Usage
from billing.tests import scene
from billing.tests.scene import called
from billing.vocabulary import BudgetLevel, CallOutcome, EntryKind
from chatplatform import tenancy
from chatplatform.postgres.models import uuid7
from chatplatform.testing import cast
from tenants.models import ConfigurationVersion
from tenants.selectors import TenantState

APRIL = date(2026, 4, 1), date(2026, 4, 30)
FIRST, SECOND = date(2026, 4, 1), date(2026, 4, 2)


@pytest.fixture
def april(in_acme: TenantState) -> TenantState:
    """Three days of calls, one of them outside of April."""
    called("0.000000001", day=FIRST, input_tokens=10, cached_input_tokens=4, output_tokens=2, cost_usd="0.5")
    called("2", day=FIRST, input_tokens=100, outcome=CallOutcome.FAILED, error="timeout")
    called("1", day=FIRST, model="gpt-5-mini", estimated=True, output_tokens=7)
    called("0", day=FIRST, kind=EntryKind.CACHE_HIT, saved_usd="0.25")
    called("0", day=FIRST, model="skipped", outcome=CallOutcome.SKIPPED)
    called("4", day=SECOND, provider="anthropic", model="claude")
    called("8", day=date(2026, 3, 31))
    called("8", day=date(2026, 5, 1))
    return in_acme


def wanted(**fields: Any) -> LedgerFilter:
    return LedgerFilter(**{"first": APRIL[0], "last": APRIL[1], **fields})


# --- Sums ----------------------------------------------------------------------------------------------------------
def test_days_and_models_are_summed_exactly(april: TenantState) -> None:
    rows = selectors.by_day_and_model(*APRIL)
    assert [(row.day, row.model, row.usage.calls) for row in rows] == [
        (FIRST, "gpt-5", 2),
        (FIRST, "gpt-5-mini", 1),
        (SECOND, "claude", 1),
    ]
    assert rows[0].usage == Usage(
        calls=2,
        cache_hits=1,
        input_tokens=110,
        cached_input_tokens=4,
        output_tokens=2,
        cost_usd=Decimal("0.5"),
        charged_usd=Decimal("2.000000001"),
        saved_usd=Decimal("0.25"),
    )
    assert selectors.total(rows).charged_usd == Decimal("7.000000001")
    assert [name for name, _ in selectors.by_model(rows)] == [
        "anthropic/claude",
        "openai/gpt-5",
        "openai/gpt-5-mini",
    ]


def test_another_tenants_ledger_is_not_in_it(april: TenantState, globex: TenantState) -> None:
    with tenancy.in_tenant(globex.ref):
        assert selectors.by_day_and_model(*APRIL) == [] and selectors.used_models(*APRIL) == []


def test_a_month_ends_today_at_the_latest() -> None:
    assert selectors.bounds(FIRST, date(2026, 4, 9)) == (FIRST, date(2026, 4, 9))
    assert selectors.bounds(FIRST, date(2026, 6, 1)) == APRIL


# --- The ledger ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("fields", "charged"),
    [
        ({}, ["4", "0", "0", "1", "2", "0.000000001"]),
        ({"last": FIRST, "provider": "openai"}, ["0", "0", "1", "2", "0.000000001"]),
        ({"model": "gpt-5-mini"}, ["1"]),
        ({"outcome": "failed"}, ["2"]),
        ({"outcome": "cache_hit"}, ["0"]),
        ({"outcome": "skipped"}, ["0"]),
        ({"estimated": True}, ["1"]),
        ({"estimated": False, "provider": "anthropic"}, ["4"]),
        ({"reply": uuid7()}, []),
    ],
)
def test_the_ledger_is_narrowed_and_the_totals_with_it(
    april: TenantState, fields: dict[str, Any], charged: list[str]
) -> None:
    page = selectors.ledger_page(wanted(**fields))
    assert [entry.charged_usd for entry in page.entries] == list(map(Decimal, charged))
    assert page.count == len(charged)
    assert page.total.charged_usd == sum(map(Decimal, charged))


def test_pages_of_the_ledger_lead_to_each_other(april: TenantState, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selectors, "PAGE", 2)
    everything = [entry.pk for entry in selectors.matching(wanted())]
    page, seen = selectors.ledger_page(wanted()), []
    assert page.newer is None and page.count == 6
    while True:
        seen += [entry.pk for entry in page.entries]
        if page.older is None:
            break
        page = selectors.ledger_page(wanted(before=page.older))
    assert seen == everything
    back = selectors.ledger_page(wanted(after=page.newer))
    assert [entry.pk for entry in back.entries] == everything[2:4]


@pytest.fixture
def stored(committed: None) -> Iterator[TenantState]:
    """Acme, with a ledger that other threads see."""
    state = cast.state("acme")
    with scene.wiped(state.ref):
        yield state


def test_the_table_has_every_entry_though_it_is_read_in_pieces(
    stored: TenantState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selectors, "CHUNK", 3)
    with tenancy.in_tenant(stored.ref):
        for number in range(7):
            called(f"{number}.000000001", model="=evil()")

    async def collected() -> bytes:
        return b"".join([piece async for piece in selectors.ledger_csv(wanted(), inside)])

    inside = partial(tenancy.staff_view, stored.ref)
    rows = list(csv.DictReader(io.StringIO(async_to_sync(collected)().decode())))
    assert [row["charged_usd"] for row in rows] == [f"{number}.000000001" for number in range(6, -1, -1)]
    assert {row["model"] for row in rows} == {"'=evil()"}


# --- Budgets -------------------------------------------------------------------------------------------------------
def test_budgets_stand_as_the_balances_of_today_and_this_month_say(in_acme: TenantState) -> None:
    today = date(2026, 4, 9)
    for level, period, spent in (
        (BudgetLevel.TENANT_MONTH, FIRST, "3"),
        (BudgetLevel.TENANT_DAY, today, "1"),
        (BudgetLevel.TENANT_DAY, SECOND, "2"),
        (BudgetLevel.CONTACT_MONTH, FIRST, "9"),
    ):
        Balance.objects.create(level=level, period=period, spent_usd=spent, held_usd="0.5", spent_tokens=70)
    limits = ConfigurationVersion(monthly_cost_budget_usd=Decimal(7), monthly_token_budget=0)
    meters = selectors.meters(replace(in_acme, configuration=limits), today)
    assert meters.month == Meter(Decimal(7), Decimal(3), Decimal("0.5"))
    assert (meters.month.left, meters.month.percent) == (Decimal("3.5"), 50)
    assert meters.day == Meter(None, Decimal(1), Decimal("0.5")) and meters.day.percent is None
    assert (meters.tokens.spent, meters.tokens.percent, meters.tokens.left) == (70, 100, 0)


def test_without_balances_nothing_is_spent(in_acme: TenantState) -> None:
    meters = selectors.meters(
        replace(in_acme, configuration=ConfigurationVersion(monthly_cost_budget_usd=Decimal(7)))
    )
    assert (meters.month.spent, meters.month.percent, meters.day.spent) == (0, 0, 0)


# --- The chart -----------------------------------------------------------------------------------------------------
def day(number: int, model: str = "m", charged: str = "1") -> DayUsage:
    return DayUsage(date(2026, 4, number), "p", model, Usage(calls=1, charged_usd=Decimal(charged)))


def test_a_bar_is_as_high_as_its_day_was_dear() -> None:
    drawn = chart([day(1, "a", "4"), day(1, "b", "1"), day(3, "a", "2.5")], *APRIL)
    assert len(drawn.bars) == 30 and not drawn.is_empty
    assert [name for _, name in drawn.legend] == ["p/a", "p/b"]
    top = Decimal("6")  # the next round number, in steps of 2
    assert [line.label for line in drawn.lines] == ["$2.00", "$4.00", "$6.00"]
    heights = [Decimal(piece.height) for piece in drawn.bars[0].pieces]
    assert heights == pytest.approx([HEIGHT * 4 / top, HEIGHT * 1 / top], abs=Decimal("0.01"))
    lower, upper = drawn.bars[0].pieces
    assert Decimal(upper.y) + Decimal(upper.height) == Decimal(lower.y)
    assert Decimal(lower.y) + Decimal(lower.height) == TOP + HEIGHT
    assert not drawn.bars[1].pieces and drawn.bars[2].said == "3 Apr: $2.50"


@pytest.mark.parametrize(
    ("number", "said"), [("500", "500"), ("20000", "20k"), ("1500000", "1.5M"), ("2e9", "2G"), ("1000", "1k")]
)
def test_beside_the_scale_numbers_are_short(number: str, said: str) -> None:
    assert short(Decimal(number)) == said


def test_many_models_share_the_last_colour() -> None:
    drawn = chart([day(1, f"m{number:02}", "1") for number in range(10)], *APRIL)
    assert [name for _, name in drawn.legend][-1] == "all others" and len(drawn.legend) == 6
    assert Decimal(drawn.bars[0].pieces[-1].height) == 5 * Decimal(drawn.bars[0].pieces[0].height)


def test_a_chart_of_nothing_is_empty() -> None:
    assert chart([], *APRIL).is_empty and chart([day(1, charged="0")], *APRIL).is_empty


@given(some.decimals(min_value=Decimal("1e-9"), max_value=Decimal("1e12"), allow_nan=False))
def test_the_scale_holds_the_highest_in_a_few_round_steps(highest: Decimal) -> None:
    top, step = scale(highest)
    assert highest <= top < highest + step
    assert 1 <= top / step <= 5 and top % step == 0
    assert step.normalize().as_tuple().digits in {(1,), (2,), (5,)}


@pytest.mark.parametrize(
    ("amount", "shown", "exact"),
    [
        ("0", "$0", "$0"),
        ("1234.5678", "$1,234.57", "$1,234.5678"),
        ("0.1", "$0.10", "$0.1"),
        ("0.0369", "$0.0369", "$0.0369"),
        ("0.000000123", "$0.000000123", "$0.000000123"),
        ("100", "$100.00", "$100"),
        ("-2.5", "−$2.50", "−$2.5"),
    ],
)
def test_money_is_shown_as_people_read_it(amount: str, shown: str, exact: str) -> None:
    assert (usd(Decimal(amount)), exact_usd(Decimal(amount))) == (shown, exact)
