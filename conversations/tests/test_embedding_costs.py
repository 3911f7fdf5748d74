"""Embeddings by a provider over whole turns and documents: held for, booked, and refused where there is no money."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.test.utils import override_settings

from billing.models import Hold, LedgerEntry, Subscription
from billing.services import budgets
from billing.tests import scene
from chatplatform import jobs, tenancy
from chatplatform.api.problem import Code, Problem
from chatplatform.testing.simulator import Simulator
from conversations.models import Document, DocumentStatus
from conversations.rag import embedders
from conversations.services import holds, knowledge, statements
from conversations.tests.spending import (
    accepted,
    expire_lease,
    generated,
    ledger,
    limit,
    say,
    start_afresh,
    total,
)
from tenants import selectors
from tenants.selectors import TenantState

DOGS = b"# Dogs\n\nDogs are welcome in all our shops."
MODEL = "text-embedding-3-small"

pytestmark = pytest.mark.usefixtures("committed")


@pytest.fixture(autouse=True)
def by_a_provider(simulator: Simulator) -> Iterator[None]:
    with override_settings(EMBEDDING_MODEL=MODEL):
        yield
    Document.objects.all().delete()


def embedded(simulator: Simulator) -> list[dict[str, Any]]:
    """What the simulator was asked to embed."""
    return [one for one in simulator.requests() if one["path"] == "/v1/embeddings"]


def of_document(document: UUID) -> list[LedgerEntry]:
    return list(LedgerEntry.objects.filter(document=document).order_by("id"))


async def ingest(data: bytes = DOGS) -> UUID:
    return await jobs.in_thread(lambda: knowledge.ingest("dogs.md", data).document_id)


async def refused(call: Callable[[], Any]) -> Problem:
    with pytest.raises(Problem) as raised:
        await jobs.in_thread(call)
    return raised.value


# --- The question of a turn ----------------------------------------------------------------------------------------
async def test_a_question_is_held_for_and_booked_with_its_reply(
    simulator: Simulator, tenant: TenantState, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ingest()
    await jobs.in_thread(start_afresh, tenant)

    def refuse(*_: Any) -> None:
        raise AssertionError("What is held for the message is enough for both calls.")

    monkeypatch.setattr(budgets, "hold_again", refuse)
    [reply] = await accepted(say(text="Are dogs welcome?"))
    [hold] = await jobs.in_thread(lambda: list(Hold.objects.all()))
    [ended] = await generated(reply)
    question, answer = await ledger(reply)
    assert (question.kind, question.sequence, question.model) == ("embedding", 0, MODEL)
    assert (answer.kind, answer.sequence, answer.model) == ("call", 1, ended.model)
    assert (question.input_tokens, question.output_tokens, question.estimated) == (3, 0, False)
    assert question.cost_usd == question.input_price * 3 / 1_000_000 > 0
    assert ended.cost_usd == question.charged_usd + answer.charged_usd == (await total()).usd <= hold.usd
    assert ended.input_tokens == question.input_tokens + answer.input_tokens
    assert ended.sources and embedded(simulator)[-1]["body"]["input"] == ["Are dogs welcome?"]


async def test_the_built_in_model_adds_nothing(simulator: Simulator, tenant: TenantState) -> None:
    def held() -> tuple[Decimal, int]:
        return Hold.objects.values_list("usd", "tokens").get()

    with override_settings(EMBEDDING_MODEL="local"):
        await ingest()
        [reply] = await accepted(say(text="Are dogs welcome?"))
        without = await jobs.in_thread(held)
        [ended] = await generated(reply)
        assert [row.kind for row in await ledger(reply)] == ["call"] and ended.sources
    [reply] = await accepted(say(text="Are dogs welcome?"))
    assert await jobs.in_thread(held) > without
    assert not embedded(simulator)
    await generated(reply)


async def test_another_attempt_holds_for_its_question_first(
    simulator: Simulator, tenant: TenantState
) -> None:
    await ingest()
    await jobs.in_thread(start_afresh, tenant)
    [reply] = await accepted(say(text="Are dogs welcome?"))
    assert await statements.begin(reply, "a worker that dies:1")
    await jobs.in_thread(expire_lease, reply)
    [ended] = await generated(reply)
    assert [(row.attempt, row.sequence, row.kind) for row in await ledger(reply)] == [
        (2, 0, "embedding"), (2, 1, "call"),
    ]  # fmt: skip
    assert await jobs.in_thread(holds.return_dead, 0) == 1
    rows = await ledger(reply)
    assert (await total()).usd == sum(row.charged_usd for row in rows) > ended.cost_usd


@pytest.mark.parametrize(
    ("fault", "outcome", "tokens", "estimated"),
    [("error", "failed", 0, False), ("drop", "failed", 5, True), ("no_usage", "completed", 5, True)],
)
async def test_what_is_billed_of_an_embedding_that_did_not_end_well(
    simulator: Simulator, tenant: TenantState, fault: str, outcome: str, tokens: int, estimated: bool
) -> None:
    await ingest()
    await jobs.in_thread(start_afresh, tenant)
    simulator.control(faults=[fault])
    [reply] = await accepted(say(text="Are dogs welcome?"))
    [ended] = await generated(reply)
    question, _ = await ledger(reply)
    assert (question.outcome, question.input_tokens, question.estimated) == (outcome, tokens, estimated)
    assert ended.status == "completed" and ended.sources, "found by its words, if need be"
    assert (await total()).usd == ended.cost_usd


async def test_a_model_without_a_price_is_never_asked(simulator: Simulator, tenant: TenantState) -> None:
    with override_settings(EMBEDDING_MODEL="text-embedding-of-nobody"):
        problem = await refused(lambda: knowledge.ingest("dogs.md", DOGS))
        assert problem.code is Code.MODEL_UNPRICED and "'openai/text-embedding-of-nobody'" in problem.detail
        [document] = await jobs.in_thread(lambda: list(Document.objects.all()))
        assert (document.status, document.error) == (DocumentStatus.FAILED, problem.detail)
        with override_settings(EMBEDDING_MODEL="local"):
            await ingest()
        [reply] = await accepted(say(text="Are dogs welcome?"))
        [ended] = await generated(reply)
    question, _ = await ledger(reply)
    assert (question.outcome, question.error, question.charged_usd) == ("skipped", "not_usable", 0)
    assert ended.status == "completed" and ended.sources, "found by its words"
    assert not embedded(simulator)


@pytest.fixture
def on_a_small_plan(tenant: TenantState) -> Iterator[Callable[[], None]]:
    """Puts the tenant on a plan without any feature."""
    plans = []

    def put() -> None:
        plans.append(scene.on_plan(tenant.ref, tier=tenant.tier))
        selectors.forget(tenant.ref.id)

    yield put
    with tenancy.in_platform():
        for plan in plans:
            Subscription.objects.filter(plan=plan).delete()
            plan.delete()
    selectors.forget(tenant.ref.id)


async def test_a_plan_without_knowledge_looks_nothing_up(
    simulator: Simulator, tenant: TenantState, on_a_small_plan: Callable[[], None]
) -> None:
    await ingest()
    await jobs.in_thread(on_a_small_plan)
    [reply] = await accepted(say(text="Are dogs welcome?"))
    [ended] = await generated(reply)
    assert [row.kind for row in await ledger(reply)] == ["call"] and not ended.sources
    assert (await refused(lambda: knowledge.ingest("cats.md", DOGS))).code is Code.NOT_ALLOWED
    assert len(embedded(simulator)) == 1


# --- Documents -----------------------------------------------------------------------------------------------------
async def test_each_batch_of_a_document_is_booked(simulator: Simulator, tenant: TenantState) -> None:
    sections = "\n\n".join(f"## Rule {number}\n\nDog number {number} is welcome." for number in range(130))
    document = await ingest(sections.encode())
    rows = await jobs.in_thread(of_document, document)
    assert [(row.kind, row.conversation, row.contact, row.estimated) for row in rows] == [
        ("embedding", None, None, False)
    ] * 2
    assert sum(row.input_tokens for row in rows) == simulator.stats()["input_tokens"]
    spent = await total()
    assert spent.usd == sum(row.charged_usd for row in rows) > 0
    assert spent.tokens == sum(row.input_tokens for row in rows)


async def test_a_document_that_nobody_can_pay_for_is_refused(
    simulator: Simulator, tenant: TenantState
) -> None:
    document = await ingest()
    await jobs.in_thread(limit, tenant, monthly_token_budget=40)
    sections = "\n\n".join(f"## Rule {number}\n\nDog number {number} is welcome." for number in range(10))
    problem = await refused(lambda: knowledge.ingest("dogs.md", sections.encode()))
    assert (problem.code, problem.more["level"], problem.more["limit"]) == (
        Code.BUDGET_EXCEEDED,
        "tenant",
        40,
    )
    assert len(embedded(simulator)) == 1, "nothing reached the provider"
    [found] = await jobs.in_thread(lambda: list(Document.objects.all()))
    assert (found.id, found.status, found.error) == (document, DocumentStatus.FAILED, problem.detail)
    assert await jobs.in_thread(found.chunks.count) == 1, "the earlier version stays in use"
    await total()
    await jobs.in_thread(limit, tenant)
    assert await ingest(sections.encode()) == document
    await jobs.in_thread(found.refresh_from_db)
    assert (found.status, found.error) == (DocumentStatus.READY, "")


async def test_a_provider_that_is_away_leaves_the_document_as_it_was(
    simulator: Simulator, tenant: TenantState
) -> None:
    simulator.control(faults=["drop"])
    problem = await refused(lambda: knowledge.ingest("dogs.md", DOGS))
    assert problem.code is Code.PROVIDER_UNAVAILABLE
    [document] = await jobs.in_thread(lambda: list(Document.objects.all()))
    assert (document.status, document.error) == (DocumentStatus.FAILED, problem.detail)
    [row] = await jobs.in_thread(of_document, document.id)
    assert (row.outcome, row.estimated) == ("failed", True)
    assert (await total()).usd == row.charged_usd > 0


async def test_the_call_of_a_killed_command_is_booked(
    simulator: Simulator, tenant: TenantState, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any) -> None:
        raise SystemExit

    monkeypatch.setattr(embedders, "ask", die)
    with pytest.raises(SystemExit):
        await ingest()
    [hold] = await jobs.in_thread(lambda: list(Hold.objects.all()))
    assert await jobs.in_thread(holds.return_dead) == 0, "it may be only slow"
    assert await jobs.in_thread(holds.return_dead, -60) == 1
    [lost] = await ledger(hold.reply)
    assert (lost.kind, lost.sequence, lost.error, lost.estimated) == ("embedding", 0, "worker_lost", True)
    assert lost.input_tokens == hold.input_tokens
    assert (await total()).usd == lost.charged_usd == hold.usd > 0
