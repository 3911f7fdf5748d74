"""Being told that a budget nears its end."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from billing.services import thresholds
from billing.services.budgets import Limits, Settled
from billing.tests.books import DAY
from chatplatform import jobs
from tenants.selectors import TenantState


@pytest.fixture
def told(in_acme: TenantState, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What is mailed: limit and percent."""
    thresholds._told.clear()
    mailed: list[tuple[Any, ...]] = []
    monkeypatch.setattr(jobs, "enqueue_on_commit", lambda name, *of, **_: mailed.append(of[:2]))
    return mailed


def note(limits: Limits, day: int | None = None, month: str | None = None, tokens: int | None = None) -> None:
    usd = [None if spent is None else Decimal(spent) for spent in (day, month)]
    thresholds.note(DAY, limits, Settled(usd[0], usd[1], tokens))


def test_each_threshold_is_told_when_it_is_reached_and_never_again(told: list[tuple[Any, ...]]) -> None:
    limits, seen = Limits(tenant_month=Decimal(10)), []
    for month in ("4.999999999", "5", "7.999999999", "8", "9.999999999", "10", "12"):
        note(limits, month=month)
        seen.append(len(told))
    assert told == [("monthly_cost", 50), ("monthly_cost", 80), ("monthly_cost", 100)]
    assert seen == [0, 1, 1, 2, 2, 3, 3]
    thresholds._told.clear()  # as in another process
    note(limits, month="12")
    assert len(told) == 3


def test_days_months_and_tokens_are_told_apart_and_all_that_was_passed_at_once(
    told: list[tuple[Any, ...]],
) -> None:
    note(Limits(tenant_day=Decimal(1), tenant_month=Decimal(100), tenant_month_tokens=10), 1, "1", 8)
    assert told == [
        ("daily_cost", 50),
        ("daily_cost", 80),
        ("daily_cost", 100),
        ("monthly_tokens", 50),
        ("monthly_tokens", 80),
    ]


def test_without_a_limit_or_a_change_nobody_is_told(told: list[tuple[Any, ...]]) -> None:
    note(Limits(), 5, "5", 5)
    note(Limits(tenant_month=Decimal(1)))
    assert not told
