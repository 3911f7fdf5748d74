"""What a tenant has used this month."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from chatplatform.api.problem import Problem
from chatplatform.tenancy import current_tenant
from chatplatform.testing.clients import Caller
from conversations.models import Conversation, Message, Reply
from conversations.services import usage
from conversations.vocabulary import ReplyStatus, Role
from tenants import selectors
from tenants.models import ConfigurationVersion
from tenants.selectors import TenantState

SHAPE = set(
    "period tokens_used api_calls cache_hits estimated_cost rate_limit_remaining budget token_budget".split()
)
BUDGET = {"limit", "spent", "held", "remaining"}


def replied(at: datetime, **values: Any) -> None:
    """A finished reply of that moment."""
    conversation = Conversation.objects.create()
    said = Message.objects.create(conversation=conversation, role=Role.USER, content="x")
    answer = Message.objects.create(conversation=conversation, role=Role.ASSISTANT, content="y")
    reply = Reply.objects.create(
        message=answer,
        user_message=said,
        conversation=conversation,
        attempt=1,
        status=ReplyStatus.COMPLETED,
        **values,
    )
    Reply.objects.filter(pk=reply.pk).update(created_at=at)


def of(month: str | None = None, **limits: Any) -> dict[str, Any]:
    state = replace(selectors.state(current_tenant().id), configuration=ConfigurationVersion(**limits))
    return usage.of_month(state, month)


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
def test_money_is_added_exactly(in_acme: TenantState) -> None:
    for _ in range(10):
        replied(
            datetime(2020, 2, 10, tzinfo=UTC),
            cost_usd=Decimal("0.000000001"),
            input_tokens=2,
            output_tokens=3,
        )
    shown = of("2020-02")
    assert (shown["estimated_cost"], shown["tokens_used"], shown["api_calls"]) == ("0.000000010", 50, 10)


def test_a_month_is_a_month_of_utc(in_acme: TenantState) -> None:
    for moment in (
        datetime(2020, 1, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(2020, 2, 1, tzinfo=UTC),
        datetime(2020, 2, 29, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(2020, 3, 1, tzinfo=UTC),
        datetime(2020, 12, 31, 23, 59, 59, tzinfo=UTC),
    ):
        replied(moment)
    counted = {
        month: of(month)["api_calls"] for month in ("2020-01", "2020-02", "2020-03", "2020-12", "2021-01")
    }
    assert counted == {"2020-01": 1, "2020-02": 2, "2020-03": 1, "2020-12": 1, "2021-01": 0}


def test_budgets_are_what_is_left_and_never_less_than_nothing(in_acme: TenantState) -> None:
    replied(datetime(2020, 2, 1, tzinfo=UTC), cost_usd=Decimal("1.5"), input_tokens=100)
    shown = of(
        "2020-02", monthly_cost_budget_usd=Decimal("5"), monthly_token_budget=60, requests_per_minute=7
    )
    assert {name: Decimal(value) for name, value in shown["budget"].items()} == {
        "limit": Decimal(5), "spent": Decimal("1.5"), "held": Decimal(0), "remaining": Decimal("3.5"),
    }  # fmt: skip
    assert all(isinstance(value, str) for value in shown["budget"].values())
    assert shown["token_budget"] == {"limit": 60, "spent": 100, "held": 0, "remaining": 0}
    assert shown["rate_limit_remaining"] == 7


def test_cache_hits_are_counted(in_acme: TenantState) -> None:
    for cache in ("", "exact", "semantic"):
        replied(datetime(2020, 2, 1, tzinfo=UTC), cache=cache)
    assert of("2020-02")["cache_hits"] == 2


@pytest.mark.parametrize(
    "month", ["2020", "2020-13", "2020-2", "20-02", "x", "2020-02-01", "0000-01", "²020-01"]
)
def test_a_month_that_is_none_is_refused(in_acme: TenantState, month: str) -> None:
    with pytest.raises(Problem):
        of(month)
