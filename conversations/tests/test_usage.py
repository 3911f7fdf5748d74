"""What a tenant has used this month."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from billing import months
from billing.models import Balance, Hold, LedgerEntry
from billing.pricing import Price
from billing.services import budgets, metering
from billing.services.budgets import Account, Amount, Limits
from billing.services.metering import Rate
from billing.vocabulary import CallOutcome
from chatplatform.llm.types import ModelRef, Usage
from chatplatform.tenancy import current_tenant
from chatplatform.testing.clients import Caller
from conversations.services import attempts, usage
from conversations.services.attempts import ProviderCall
from tenants import selectors
from tenants.models import ConfigurationVersion
from tenants.selectors import TenantState

SHAPE = set(
    "period tokens_used api_calls cache_hits estimated_cost rate_limit_remaining budget token_budget".split()
)
BUDGET = {"limit", "spent", "held", "remaining"}


@pytest.fixture
def books(in_acme: TenantState) -> TenantState:
    """Acme, with empty balances."""
    Balance.objects.all().delete()
    Hold.objects.all().delete()
    return in_acme


def replied(day: date, cost: str = "0", input_tokens: int = 0, output_tokens: int = 0) -> None:
    """A reply that was accepted on that day, of one call, at that price for all of it."""
    account = Account(uuid4(), 1, uuid4(), None, day)
    millions = Decimal(cost) * 1_000_000 / (input_tokens or 1)
    rate = Rate(Price(None, millions, Decimal(0), Decimal(0), Decimal(0)))
    call = ProviderCall(
        ModelRef("openai", "gpt-4o"), CallOutcome.COMPLETED, timezone.now(), 5,
        usage=Usage(input_tokens=input_tokens, output_tokens=output_tokens), rate=rate,
    )  # fmt: skip
    skipped = ProviderCall(ModelRef("openai", "gpt-4o"), CallOutcome.SKIPPED, timezone.now(), 0)
    budgets.settle(account, attempts.rows(account, [skipped, call]))


def of(month: str | None = None, **limits: Any) -> dict[str, Any]:
    state = replace(selectors.state(current_tenant().id), configuration=ConfigurationVersion(**limits))
    return usage.of_month(state, months.parse(month) if month else None)


# --- Over REST -------------------------------------------------------------------------------------------------
def test_it_has_the_shape_of_the_contract(acme_api: Caller) -> None:
    shown = acme_api.get("/tenants/acme/usage").json()
    assert set(shown) == SHAPE
    assert set(shown["budget"]) == set(shown["token_budget"]) == BUDGET
    assert shown["period"] == f"{timezone.now():%Y-%m}"
    assert isinstance(shown["estimated_cost"], str)
    assert (shown["budget"]["limit"], shown["budget"]["remaining"]) == (None, None)


def test_a_turn_counts(acme_api: Caller) -> None:
    before = acme_api.get("/tenants/acme/usage").json()
    reply = acme_api.ask(acme_api.begin("gpt-4o-mini"))["reply"]
    after = acme_api.get("/tenants/acme/usage").json()
    tokens = reply["usage"]["input_tokens"] + reply["usage"]["output_tokens"]
    assert after["tokens_used"] - before["tokens_used"] == tokens > 0
    assert after["api_calls"] - before["api_calls"] == 1
    assert (
        Decimal(after["estimated_cost"]) - Decimal(before["estimated_cost"]) == Decimal(reply["cost_usd"]) > 0
    )


def test_another_tenants_turn_does_not_count(acme_api: Caller, globex_api: Caller) -> None:
    before = acme_api.get("/tenants/acme/usage").json()
    globex_api.ask(globex_api.begin("gpt-4o-mini"))
    assert acme_api.get("/tenants/acme/usage").json() == before


def test_staff_may_look_and_others_may_not(staff_api: Caller, acme_api: Caller) -> None:
    assert staff_api.get("/tenants/globex/usage").status_code == 200
    assert staff_api.get("/tenants/nobody/usage").status_code == 404
    assert acme_api.get("/tenants/globex/usage").status_code == 404


# --- The sums --------------------------------------------------------------------------------------------------
def test_money_is_added_exactly(books: TenantState) -> None:
    for _ in range(10):
        replied(date(2020, 2, 10), "0.000000001", 2, 3)
    shown = of("2020-02")
    assert (shown["estimated_cost"], shown["tokens_used"], shown["api_calls"]) == ("0.000000010", 50, 10)


def test_a_month_is_a_month_of_utc(books: TenantState) -> None:
    for day in (date(2020, 1, 31), date(2020, 2, 1), date(2020, 2, 29), date(2020, 3, 1), date(2020, 12, 31)):
        replied(day)
    counted = {
        month: of(month)["api_calls"] for month in ("2020-01", "2020-02", "2020-03", "2020-12", "2021-01")
    }
    assert counted == {"2020-01": 1, "2020-02": 2, "2020-03": 1, "2020-12": 1, "2021-01": 0}


def test_budgets_are_what_is_left_and_never_less_than_nothing(books: TenantState) -> None:
    replied(date(2020, 2, 1), "1.5", 100)
    held = Account(uuid4(), 1, uuid4(), None, date(2020, 2, 3))
    budgets.hold_again(held, [], Amount(Decimal("0.25"), 7), Limits())
    shown = of(
        "2020-02", monthly_cost_budget_usd=Decimal("5"), monthly_token_budget=60, requests_per_minute=7
    )
    assert {name: Decimal(value) for name, value in shown["budget"].items()} == {
        "limit": Decimal(5), "spent": Decimal("1.5"), "held": Decimal("0.25"), "remaining": Decimal("3.25"),
    }  # fmt: skip
    assert all(isinstance(value, str) for value in shown["budget"].values())
    assert shown["token_budget"] == {"limit": 60, "spent": 100, "held": 7, "remaining": 0}
    assert shown["rate_limit_remaining"] == 7


def test_holds_of_the_dead_are_not_shown_as_held(books: TenantState) -> None:
    gone = Account(uuid4(), 1, uuid4(), None, date(2020, 2, 3))
    budgets.hold_again(gone, [], Amount(Decimal("0.25"), 7), Limits())
    Hold.objects.update(taken_at=timezone.now() - timedelta(hours=1))
    assert Decimal(of("2020-02")["budget"]["held"]) == 0


def test_cache_hits_are_counted_and_cost_nothing(books: TenantState) -> None:
    account = Account(uuid4(), 1, uuid4(), None, date(2020, 2, 1))
    rate = Rate(Price(None, Decimal(1), Decimal(0), Decimal(0), Decimal(2)), Decimal(50))
    hit = metering.cache_hit(
        ModelRef("openai", "gpt-4o"), rate, Usage(input_tokens=100, output_tokens=50), at=timezone.now(),
        reply=account.reply, conversation=account.conversation, day=account.day, attempt=1, sequence=1,
    )  # fmt: skip
    budgets.settle(account, [hit])
    shown = of("2020-02")
    assert (shown["cache_hits"], shown["api_calls"], shown["tokens_used"]) == (1, 0, 0)
    assert Decimal(shown["estimated_cost"]) == 0
    row = LedgerEntry.objects.get(reply=account.reply)
    assert (row.cost_usd, row.charged_usd, row.saved_usd) == (0, 0, Decimal("0.0003"))
