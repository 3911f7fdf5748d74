"""Budgets over whole turns: accepted by many threads at once, generated from the simulator, and what the books say."""

from __future__ import annotations

import asyncio
from collections import Counter
from decimal import Decimal
from threading import Event
from typing import Any
from uuid import UUID

import pytest
from django.core import mail
from django.test.utils import override_settings

from billing import pricing
from billing.models import Hold
from billing.services import budgets, thresholds
from chatplatform import jobs, tenancy
from chatplatform.api.problem import Code, Problem
from chatplatform.llm.tokens import count_pieces
from chatplatform.llm.types import CompletionRequest, ModelRef
from chatplatform.testing.simulator import Simulator
from conversations.models import Conversation
from conversations.prompts.build import build
from conversations.services import (
    attempts,
    conversations,
    generation,
    holds,
    lease_keeper,
    settlement,
    spending,
    statements,
)
from conversations.services.settlement import Outcome
from conversations.tests.spending import (
    LONGEST,
    MODEL,
    accepted,
    generated,
    hold_of,
    ledger,
    limit,
    say,
    start_afresh,
    stored,
    total,
)
from conversations.vocabulary import ReplyStatus
from tenants import keyring, selectors
from tenants.models import Contact
from tenants.selectors import TenantState

pytestmark = pytest.mark.usefixtures("committed")


# --- A cap is a cap ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("clamping", [False, True], ids=["without clamping", "with clamping"])
async def test_two_hundred_at_once_against_a_budget_for_seven(
    simulator: Simulator, tenant: TenantState, clamping: bool
) -> None:
    one = await hold_of()
    await jobs.in_thread(start_afresh, tenant)
    price = Decimal(10) / 1_000_000  # dollars for a token of the answer
    budget = (8 * one.usd - Decimal("4.5") * price).quantize(Decimal("0.000001"))
    await jobs.in_thread(limit, tenant, monthly_cost_budget_usd=budget)
    seen = simulator.stats()["requests"]
    with override_settings(BUDGET_CLAMP=clamping):
        answers = await accepted(*[say()] * 200)
    served = [answer for answer in answers if isinstance(answer, UUID)]
    refused = [answer for answer in answers if isinstance(answer, Problem)]
    assert {problem.code for problem in refused} == {Code.BUDGET_EXCEEDED}
    assert {(problem.more["level"], problem.more["limit"]) for problem in refused} == {
        ("tenant", f"{budget:f}")
    }
    replies = await generated(*served)
    assert simulator.stats()["requests"] - seen == len(served)
    lengths = Counter(reply.output_tokens for reply in replies)
    short = [reply for reply in replies if reply.output_tokens < LONGEST]
    assert lengths[LONGEST] == 7
    assert len(short) == clamping, "and at most one shorter one"
    spent = (await total()).usd
    assert spent == sum(reply.cost_usd for reply in replies) <= budget
    rows = await ledger(*served)
    assert sum(row.charged_usd for row in rows) == spent
    for reply in short:
        assert (reply.finish_reason, reply.status) == ("length", "completed")
        assert f"cut at {reply.output_tokens} tokens" in reply.notice


async def test_a_token_budget_is_a_cap_too(simulator: Simulator, tenant: TenantState) -> None:
    one = await hold_of()
    await jobs.in_thread(start_afresh, tenant)
    budget = 3 * one.tokens + LONGEST // 2
    await jobs.in_thread(limit, tenant, monthly_token_budget=budget)
    answers = await accepted(*[say()] * 30)
    served = [answer for answer in answers if isinstance(answer, UUID)]
    assert len(served) == 3
    refusal = next(answer for answer in answers if isinstance(answer, Problem))
    assert (refusal.more["level"], refusal.more["limit"], refusal.more["spent"]) == ("tenant", budget, 0)
    await generated(*served)
    assert (await total()).tokens <= budget


@pytest.mark.parametrize(
    ("setting", "level"),
    [
        ("conversation_cost_budget_usd", "conversation"),
        ("user_monthly_cost_budget_usd", "user"),
        ("daily_cost_budget_usd", "tenant"),
    ],
)
async def test_each_level_has_a_cap_of_its_own(
    simulator: Simulator, tenant: TenantState, setting: str, level: str
) -> None:
    def begin() -> Conversation:
        return conversations.begin(model=MODEL, contact=Contact.objects.create())

    first, other = await jobs.in_thread(begin), await jobs.in_thread(begin)
    await jobs.in_thread(limit, tenant, **{setting: Decimal("0.0006")})
    with override_settings(BUDGET_CLAMP=False):
        [reply] = await accepted(say(first.pk))
        await generated(reply)
        [refusal] = await accepted(say(first.pk))
        [elsewhere] = await accepted(say(other.pk))
    assert (refusal.code, refusal.more["level"]) == (Code.BUDGET_EXCEEDED, level)
    assert Decimal(refusal.more["spent"]) > 0
    assert isinstance(elsewhere, Problem) == (level == "tenant"), "a narrow budget is nobody else's"
    assert await jobs.in_thread(first.messages.count) == 2, "nothing of it was stored"


async def test_a_model_without_a_price_is_refused(simulator: Simulator, tenant: TenantState) -> None:
    [refusal] = await accepted(say(model="gpt-of-nobody"))
    assert refusal.code is Code.MODEL_UNPRICED


# --- What is held --------------------------------------------------------------------------------------------------
async def test_what_is_held_covers_the_call_whatever_was_said_before(
    simulator: Simulator, tenant: TenantState
) -> None:
    """Then the worker has no reason to ask the database again."""
    simulator.control(tokens=30)
    [conversation] = await accepted(lambda: conversations.begin(model=MODEL).pk)
    for text in ("Where is my order?", "It was to come on Tuesday, and now it is Friday.\n" * 40, "So?"):
        [reply] = await accepted(say(conversation, text))
        [held] = await jobs.in_thread(lambda: list(Hold.objects.values_list("usd", "tokens", "taken_at")))
        begun = await statements.begin(reply, "somebody:1")
        assert begun is not None and (begun.held.usd, begun.held.tokens) == held[:2]
        await jobs.in_thread(statements.hand_back, begun.reply, "")
        prices = pricing.current()
        state = selectors.state(tenant.ref.id)
        allowance = spending.allowance(state, attempts.account(begun.reply), prices, begun.held)
        prompt = build(state.configuration.system_prompt, state.name, begun.said, [])
        request = CompletionRequest(MODEL, prompt.messages, prompt.system, max_tokens=LONGEST)
        await allowance.hold(ModelRef("openai", MODEL), request, [])
        [still] = await jobs.in_thread(lambda: list(Hold.objects.values_list("usd", "tokens", "taken_at")))
        assert still == held, "no second hold was needed"
        await generated(reply)
        await jobs.in_thread(holds.return_dead, 0)


async def test_an_entry_can_be_reckoned_again_without_the_price_list(
    simulator: Simulator, tenant: TenantState
) -> None:
    [reply] = await accepted(say())
    await generated(reply)
    [row] = await ledger(reply)
    price = pricing.current().price(ModelRef(row.provider, row.model))
    assert (row.price, row.input_price, row.cached_input_price, row.cache_write_price, row.output_price) == (
        price.id, price.input, price.cached_input, price.cache_write, price.output,
    )  # fmt: skip
    million = row.input_price * row.input_tokens + row.output_price * row.output_tokens
    assert row.cost_usd == million / 1_000_000 > 0
    assert row.charged_usd == row.cost_usd * (100 + row.markup_percent) / 100


async def test_a_budget_set_later_counts_what_was_spent_before(
    simulator: Simulator, tenant: TenantState
) -> None:
    [reply] = await accepted(say())
    [ended] = await generated(reply)
    await jobs.in_thread(limit, tenant, monthly_cost_budget_usd=ended.cost_usd.quantize(Decimal("0.000001")))
    [refusal] = await accepted(say())
    assert Decimal(refusal.more["spent"]) == ended.cost_usd


# --- Further calls -------------------------------------------------------------------------------------------------
async def test_a_failover_holds_again(simulator: Simulator, tenant: TenantState) -> None:
    simulator.control(faults=["drop@20"], tps=2000)
    [reply] = await accepted(say(fallback_model=["anthropic/claude-haiku-4-5"]))
    [ended] = await generated(reply)
    rows = await ledger(reply)
    assert [(row.outcome, row.estimated) for row in rows] == [("failed", True), ("completed", False)]
    assert ended.cost_usd == sum(row.charged_usd for row in rows) == (await total()).usd


async def test_a_call_that_the_budget_has_no_room_for_is_not_made(
    simulator: Simulator, tenant: TenantState
) -> None:
    one = await hold_of()
    await jobs.in_thread(start_afresh, tenant)
    await jobs.in_thread(
        limit, tenant, monthly_cost_budget_usd=(one.usd * Decimal("1.1")).quantize(Decimal("0.000001"))
    )
    simulator.control(faults=["drop@30"], tps=2000)
    seen = simulator.stats()["requests"]
    [reply] = await accepted(say(fallback_model=["anthropic/claude-opus-4-5"]))
    [ended] = await generated(reply)
    assert (ended.status, ended.error_code) == ("failed", "budget_exceeded")
    assert "budget" in ended.error_detail and "$" in ended.error_detail
    rows = await ledger(reply)
    assert [(row.outcome, row.error) for row in rows] == [
        ("failed", "connection_lost"),
        ("skipped", "over_budget"),
    ]
    assert simulator.stats()["requests"] - seen == 1
    assert (await total()).usd <= one.usd


async def test_a_reply_that_is_cancelled_while_it_holds_again_leaves_no_hold(
    simulator: Simulator, tenant: TenantState, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold, begun, may_go_on, over = budgets.hold_again, Event(), Event(), Event()

    def slowly(*of: Any) -> None:
        begun.set()
        assert may_go_on.wait(10)
        hold(*of)
        over.set()

    monkeypatch.setattr(budgets, "hold_again", slowly)
    simulator.control(faults=["drop@20"], tps=2000)
    [reply] = await accepted(say(fallback_model=["anthropic/claude-haiku-4-5"]))
    at_work = asyncio.create_task(generation.generate(reply))
    assert await asyncio.to_thread(begun.wait, 10)
    lease_keeper._cancel({"reply_id": str(reply)})
    await asyncio.wait([at_work], timeout=0.3)
    may_go_on.set()
    assert await at_work and await asyncio.to_thread(over.wait, 10)
    [ended] = await stored(reply)
    assert ended.status == "cancelled"
    assert (await total()).usd == ended.cost_usd > 0


async def test_a_cheaper_model_answers_where_there_is_no_room_for_a_dear_one(
    simulator: Simulator, tenant: TenantState
) -> None:
    one = await hold_of()
    await jobs.in_thread(start_afresh, tenant)
    budget = (one.usd * Decimal("1.2")).quantize(Decimal("0.000001"))
    await jobs.in_thread(limit, tenant, monthly_cost_budget_usd=budget)
    simulator.control(faults=["drop@30"], tps=2000)
    [reply] = await accepted(say(fallback_model=["anthropic/claude-opus-4-5", "openai/gpt-4o-mini"]))
    [ended] = await generated(reply)
    assert (ended.status, ended.model, ended.degraded) == ("completed", "gpt-4o-mini", True)
    assert (await total()).usd <= budget


async def test_a_fallback_that_may_not_be_used_is_left_out(simulator: Simulator, tenant: TenantState) -> None:
    replies = await accepted(*[say(fallback_model=["anthropic/claude-opus-4-5"])] * 2)
    await jobs.in_thread(limit, tenant, allowed_models=[MODEL])
    try:
        [fine] = await generated(replies[0])
        simulator.control(faults=["drop@20"], tps=2000)
        [failed] = await generated(replies[1])
    finally:
        await jobs.in_thread(limit, tenant, allowed_models=None)
    assert (fine.status, fine.model, fine.degraded) == ("completed", MODEL, False)
    assert (failed.status, failed.error_code) == ("failed", "provider_unavailable")
    assert "not allowed" in failed.error_detail
    rows = await ledger(failed.pk)
    assert [(row.outcome, row.error) for row in rows] == [
        ("failed", "connection_lost"),
        ("skipped", "not_usable"),
    ]


async def test_an_answer_longer_than_it_may_be_is_cut(simulator: Simulator, tenant: TenantState) -> None:
    simulator.control(tokens=LONGEST + 20, limitless=1)
    [reply] = await accepted(say())
    [ended] = await generated(reply)
    assert (ended.status, ended.finish_reason) == ("completed", "length")
    assert count_pieces([ended.message.content]) == LONGEST
    assert ended.notice == f"The answer was cut at {LONGEST} tokens: it may not be longer."
    [row] = await ledger(reply)
    assert (row.output_tokens, row.estimated) == (LONGEST + 20, False), (
        "its end was waited for, for its usage"
    )


async def test_an_answer_without_an_end_is_not_waited_for(simulator: Simulator, tenant: TenantState) -> None:
    simulator.control(tokens=5000, limitless=1, tps=2000)
    [reply] = await accepted(say())
    [ended] = await generated(reply)
    assert count_pieces([ended.message.content]) == LONGEST
    [row] = await ledger(reply)
    assert row.estimated and LONGEST + 64 <= row.output_tokens < 1000, "what was received is paid"


async def test_an_attempt_begins_where_its_keys_are_still_to_be_looked_up(
    simulator: Simulator, tenant: TenantState
) -> None:
    [reply] = await accepted(say(system_prompt="Be “kind”."))
    keyring._kept.clear()
    begun = await statements.begin(reply, "somebody:1")
    assert begun and begun.reply.conversation.system_prompt == "Be “kind”."
    keyring._kept.clear()
    assert await settlement.settle(begun.reply, Outcome(ReplyStatus.COMPLETED, "Good"))
    [ended] = await stored(reply)
    assert ended.message.content == "Good"


# --- Being told ----------------------------------------------------------------------------------------------------
async def test_half_four_fifths_and_all_are_told_once(
    simulator: Simulator, tenant: TenantState, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[Any, ...]] = []
    monkeypatch.setattr(jobs, "enqueue", lambda *job, **_: sent.append(job))
    [reply] = await accepted(say())
    [ended] = await generated(reply)
    await jobs.in_thread(start_afresh, tenant)
    assert not [one for one in sent if one[0] == thresholds.MAIL]
    budget = (ended.cost_usd * 4).quantize(Decimal("0.000001"))
    await jobs.in_thread(limit, tenant, monthly_cost_budget_usd=budget, daily_cost_budget_usd=budget * 100)
    with override_settings(BUDGET_CLAMP=False):
        for _ in range(5):
            [reply] = await accepted(say())
            if isinstance(reply, UUID):
                await generated(reply)
    told = [one[1:3] for one in sent if one[0] == thresholds.MAIL]
    assert told == [("monthly_cost", 50), ("monthly_cost", 80)][: len(told)] and told
    thresholds._told.clear()  # as in another process
    before = len(sent)
    await jobs.in_thread(limit, tenant, monthly_cost_budget_usd=budget * 4)
    [reply] = await accepted(say())
    await generated(reply)
    assert not [one for one in sent[before:] if one[0] == thresholds.MAIL], "little of it is spent"


def test_a_mail_says_how_much_is_spent(tenant: TenantState) -> None:
    with (
        override_settings(
            EMAIL_BACKEND="django.core.mail.backends.locmem.EmailBackend", STAFF_EMAIL="ops@example.com"
        ),
        tenancy.in_tenant(tenant.ref),
    ):
        assert thresholds.mail("monthly_cost", 80, "4.1", "5", "2026-03-01")
    [sent] = mail.outbox
    assert sent.to == ["ops@example.com"] and "80 %" in sent.subject and "4.1 of 5" in sent.body
