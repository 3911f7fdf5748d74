"""Being told that a budget nears its end."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from billing import tasks
from billing.models import Balance, BudgetNotice
from billing.services import budgets, clamping, thresholds
from billing.services.budgets import Account, Limits, Settled
from billing.services.clamping import NextCall
from billing.tests.books import DAY, DOLLAR, account, entry
from chatplatform import jobs
from chatplatform.api.problem import Problem
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


def test_a_limit_that_is_raised_is_told_of_anew(told: list[tuple[Any, ...]]) -> None:
    for limit in (10, 20, 10):
        note(Limits(tenant_month=Decimal(limit)), month="10")
    assert told == [*(("monthly_cost", percent) for percent in (50, 80, 100)), ("monthly_cost", 50)]
    thresholds._told.clear()  # as in another process
    note(Limits(tenant_month=Decimal("20.00")), month="16")
    assert told[4:] == [("monthly_cost", 80)]


def test_what_an_older_release_told_is_not_told_again(told: list[tuple[Any, ...]]) -> None:
    BudgetNotice.objects.create(limit="monthly_cost", period=DAY.replace(day=1), percent=50)
    note(Limits(tenant_month=Decimal(10)), month="8")
    assert told == [("monthly_cost", 80)]


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


# --- Refusals ------------------------------------------------------------------------------------------------------
@pytest.fixture
def sent(told: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The jobs that are sent: name and arguments; nothing is spent yet."""
    Balance.objects.all().delete()
    jobs_sent: list[tuple[Any, ...]] = []

    def enqueue(*job: Any, **_: Any) -> bool:
        jobs_sent.append(job)
        return True

    monkeypatch.setattr(jobs, "enqueue", enqueue)
    return jobs_sent


def refuse(of: Account, limits: Limits) -> None:
    """Ask for two dollars."""

    def hold(call: NextCall) -> None:
        budgets.hold_again(of, [], call.worst, limits)

    with pytest.raises(Problem, match="budget"):
        clamping.take(hold, NextCall(DOLLAR, 0, 2), of, limits, free=lambda: 0)


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        (Limits(tenant_day=Decimal(10)), "daily_cost"),
        (Limits(tenant_month=Decimal(10)), "monthly_cost"),
        (Limits(tenant_month_tokens=10), "monthly_tokens"),
    ],
    ids=["day", "month", "tokens"],
)
def test_the_first_refusal_counts_as_all_of_a_limit(
    told: list[tuple[Any, ...]], sent: list[tuple[Any, ...]], limits: Limits, name: str
) -> None:  # fmt: skip
    of = account()
    thresholds.note(DAY, limits, budgets.settle(of, [entry(of, 9)]))
    assert told == [(name, 50), (name, 80)]
    refuse(account(), limits)
    refuse(account(), limits)
    [(job, *about)] = sent
    assert job == tasks.tell_refusal.name
    for _ in range(2):  # as from two processes
        thresholds.tell_once(thresholds.read(*about))
    assert told[2:] == [(name, 100)]
    thresholds.note(DAY, limits, Settled(Decimal(11), Decimal(11), 11))
    assert len(told) == 3, "and it is not told again once all is spent"


def test_a_refusal_is_told_later_if_the_broker_is_away(
    sent: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(tenant_month=Decimal(1))
    with monkeypatch.context() as away:
        away.setattr(jobs, "enqueue", lambda *_, **__: False)
        refuse(account(), limits)
    refuse(account(), limits)
    assert len(sent) == 1


def test_what_a_conversation_or_an_end_user_may_not_spend_is_told_to_nobody(
    sent: list[tuple[Any, ...]],
) -> None:
    refuse(account(), Limits(conversation=Decimal(1), tenant_month=Decimal(100)))
    refuse(account(contact=uuid4()), Limits(contact_month=Decimal(1)))
    assert not sent
