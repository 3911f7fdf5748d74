"""Attempts that die: what they held comes back, and what they called is booked once."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.db import OperationalError
from django.test.utils import override_settings
from django.utils import timezone

from billing.models import Hold
from billing.vocabulary import CallOutcome
from chatplatform import jobs
from chatplatform.llm.tokens import estimate_tokens
from chatplatform.llm.types import ModelRef
from chatplatform.testing.simulator import Simulator
from chatplatform.testing.stage import until
from conversations.models import Reply
from conversations.services import (
    attempts,
    generation,
    holds,
    reconciler,
    statements,
)
from conversations.tests.spending import (
    MODEL,
    accepted,
    expire_lease,
    generated,
    ledger,
    limit,
    say,
    total,
)
from tenants.selectors import TenantState

pytestmark = pytest.mark.usefixtures("committed")


async def test_what_a_dead_attempt_held_comes_back(simulator: Simulator, tenant: TenantState) -> None:
    [reply] = await accepted(say())
    assert await statements.begin(reply, "a worker that dies:1")
    await jobs.in_thread(expire_lease, reply)
    [ended] = await generated(reply)
    assert (ended.status, ended.attempt) == ("completed", 2)
    left = await jobs.in_thread(lambda: [(row.reply, row.attempt) for row in Hold.objects.all()])
    assert left == [(reply, 1)], "the second attempt held for itself, and settled that"
    assert await jobs.in_thread(holds.return_dead) == 0, "it may be only paused"
    later = timezone.now() - timedelta(hours=1)
    await jobs.in_thread(lambda: Hold.objects.update(taken_at=later))
    await jobs.in_thread(lambda: Reply.objects.filter(pk=reply).update(started_at=later, completed_at=later))
    assert await jobs.in_thread(holds.return_all_dead) >= 1
    rows = await ledger(reply)
    assert (await total()).usd == sum(row.charged_usd for row in rows) > ended.cost_usd


async def test_the_call_of_a_killed_worker_is_booked_once(simulator: Simulator, tenant: TenantState) -> None:
    [reply] = await accepted(say())
    begun = await statements.begin(reply, "a worker that dies:1")
    assert begun
    text = "So far and no further"
    await jobs.in_thread(statements.checkpoint, [(reply, 1, text, None)])
    await jobs.in_thread(expire_lease, reply)
    [ended] = await generated(reply)
    assert [row.attempt for row in await ledger(reply)] == [2]
    assert await jobs.in_thread(holds.return_dead, 0) == 1
    lost, answered = await ledger(reply)
    assert (lost.attempt, lost.sequence, f"{lost.provider}/{lost.model}") == (1, 1, f"openai/{MODEL}")
    assert (lost.outcome, lost.error, lost.estimated) == ("failed", "worker_lost", True)
    assert lost.input_tokens >= answered.input_tokens
    assert lost.output_tokens == estimate_tokens(text), "of its own text, not of what another attempt said"
    assert lost.charged_usd > 0
    spent = await total()
    assert spent.usd == lost.charged_usd + answered.charged_usd
    # The worker was only paused, and comes late with its own record.
    late = attempts.ProviderCall(ModelRef("openai", MODEL), CallOutcome.CANCELLED, timezone.now(), 5)
    await jobs.in_thread(attempts.record, begun.reply, [late])
    assert await ledger(reply) == [lost, answered] and await total() == spent
    assert ended.status == "completed"


async def test_a_worker_that_dies_after_a_failover_leaves_the_right_call(
    simulator: Simulator, tenant: TenantState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fallback is cheap: what was held for the first call would have been enough for both."""
    record, late = attempts.record, []

    async def dies_before(*_: Any) -> None: ...

    monkeypatch.setattr(statements, "settle", dies_before)
    monkeypatch.setattr(attempts, "record", lambda *of: late.append(of))
    simulator.control(faults=["error", "error"])
    [reply] = await accepted(say(fallback_model=["openai/gpt-4o-mini"]))
    assert await generation.generate(reply)
    failed = await ledger(reply)
    assert [(row.sequence, row.model, row.status) for row in failed] == [(1, MODEL, 500), (2, MODEL, 500)]
    await jobs.in_thread(lambda: Reply.objects.filter(pk=reply).update(status="cancelled"))
    assert await jobs.in_thread(holds.return_dead, -60) == 1
    *_, lost = rows = await ledger(reply)
    assert (lost.sequence, lost.model, lost.error) == (3, "gpt-4o-mini", "worker_lost")
    # It was only paused, and comes late with its own record of all three.
    [of] = late
    assert len(of[1]) == 3
    await jobs.in_thread(record, *of)
    assert await ledger(reply) == rows
    assert (await total()).usd == lost.charged_usd > 0


async def test_a_dead_hold_that_somebody_else_gives_back_is_in_nobodys_way(
    simulator: Simulator, tenant: TenantState, monkeypatch: pytest.MonkeyPatch
) -> None:
    [reply] = await accepted(say())
    assert await statements.begin(reply, "a worker that dies:1")
    await jobs.in_thread(expire_lease, reply)

    def meanwhile(text: str, model: ModelRef) -> int:
        holds.return_dead(0)
        return 0

    monkeypatch.setattr(statements, "answer_tokens", meanwhile)
    [ended] = await generated(reply)
    assert (ended.status, ended.attempt) == ("completed", 2)


async def test_the_call_of_a_reply_that_is_given_up_is_booked(
    simulator: Simulator, tenant: TenantState
) -> None:
    [reply] = await accepted(say())
    await statements.begin(reply, "a worker that dies:1")
    await jobs.in_thread(statements.checkpoint, [(reply, 1, "So far and no further", None)])
    await jobs.in_thread(expire_lease, reply, None)
    await jobs.in_thread(reconciler._give_up, reply)
    [lost] = await ledger(reply)
    assert (lost.error, lost.output_tokens) == ("worker_lost", estimate_tokens("So far and no further"))
    assert (await total()).usd == lost.charged_usd > 0


async def test_nothing_is_booked_where_no_worker_had_begun(simulator: Simulator, tenant: TenantState) -> None:
    [reply] = await accepted(say())
    await jobs.in_thread(lambda: Reply.objects.filter(pk=reply).update(status="cancelled"))
    assert await jobs.in_thread(holds.return_dead, -60) == 1
    assert await ledger(reply) == []


async def test_a_refusal_looks_for_the_dead_first(simulator: Simulator, tenant: TenantState) -> None:
    [reply] = await accepted(say())
    later = timezone.now() - timedelta(hours=1)

    def forget() -> None:
        conversation = Reply.objects.get(pk=reply).conversation
        conversation.delete()
        Hold.objects.update(taken_at=later)

    one = await jobs.in_thread(lambda: Hold.objects.get(reply=reply).usd)
    await jobs.in_thread(forget)
    budget = (one * Decimal("1.5")).quantize(Decimal("0.000001"))
    await jobs.in_thread(limit, tenant, monthly_cost_budget_usd=budget)
    with override_settings(BUDGET_CLAMP=False):
        [answer] = await accepted(say())
    assert isinstance(answer, UUID)
    await generated(answer)
    await total()


async def test_a_stale_attempt_books_its_calls_and_settles_nothing(
    simulator: Simulator, tenant: TenantState
) -> None:
    simulator.control(tps=20)
    seen = simulator.stats()["active"]
    [reply] = await accepted(say())
    first = asyncio.create_task(generation.generate(reply))
    await asyncio.to_thread(
        until, lambda: simulator.stats()["active"] > seen, "the first attempt has an answer"
    )
    await jobs.in_thread(expire_lease, reply)
    simulator.control(tps=0)
    [ended] = await generated(reply)
    await first
    assert ended.attempt == 2
    rows = await ledger(reply)
    assert {row.attempt for row in rows} == {1, 2}
    assert (await total()).usd == sum(row.charged_usd for row in rows) > ended.cost_usd


async def test_calls_are_booked_when_the_database_is_back(
    simulator: Simulator, tenant: TenantState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A minute later: it was another one that took over."""
    settle, away = statements.settle, iter(range(120))

    def gone_at_first(*of: Any) -> Any:
        if next(away, None) is not None:
            raise OperationalError("the connection is lost")
        return settle(*of)

    monkeypatch.setattr(statements, "settle", gone_at_first)
    monkeypatch.setattr(generation, "SETTLE_PAUSE", 0.0)
    [reply] = await accepted(say())
    [ended] = await generated(reply)
    assert (ended.status, len(await ledger(reply))) == ("completed", 1)
    assert (await total()).usd == ended.cost_usd > 0
