"""What becomes of a reply when providers fail, over the real simulator, in both wire formats."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.test.utils import override_settings

from billing import pricing
from billing.services.budgets import Account, Amount, Limits
from chatplatform import tenancy
from chatplatform.llm.catalog import LOCAL, resolve
from chatplatform.llm.tokens import count_pieces
from chatplatform.llm.types import ChatMessage, CompletionRequest, ModelRef, Usage
from chatplatform.resilience.circuit_breaker import CircuitState
from chatplatform.resilience.deadline import Deadline
from chatplatform.tenancy import TenantRef
from chatplatform.testing.simulator import Simulator, running_simulator
from conversations import gateway, guards
from conversations.services.asking import BUILT_IN_ANSWERED, Turn, ask, ended
from conversations.services.calling import Calls
from conversations.services.settlement import Outcome
from conversations.services.spending import Allowance
from conversations.streaming.writer import ReplyWriter
from conversations.vocabulary import ReplyStatus, ResetReason

ACME = TenantRef(UUID("01900000-0000-7000-8000-0000000000aa"), "acme", "t_acme")
GLOBEX = TenantRef(UUID("01900000-0000-7000-8000-0000000000bb"), "globex", "t_globex")
WIRES = ["openai", "anthropic"]
FAST = "sim-tokens=8"


class Writer(ReplyWriter):
    """Remembers why it was told to begin again."""

    def __init__(self) -> None:
        super().__init__(uuid4(), uuid4(), 1)
        self.restarts: list[ResetReason] = []

    def restart(self, reason: ResetReason) -> None:
        self.restarts.append(reason)
        super().restart(reason)


@pytest.fixture(scope="module")
def shared() -> Iterator[Simulator]:
    with running_simulator() as simulator:
        yield simulator


@pytest.fixture
async def simulator(shared: Simulator, django_db_setup: None) -> AsyncIterator[Simulator]:
    """A gateway to the simulator, with short deadlines; circuits that do not open by themselves."""
    shared.control(reset=True)
    installation = override_settings(
        OPENAI_API_KEY="simulated",
        OPENAI_BASE_URL=shared.openai_url,
        ANTHROPIC_API_KEY="simulated",
        ANTHROPIC_BASE_URL=shared.anthropic_url,
        LOCAL_TOKENS_PER_SECOND=0,
        FIRST_TOKEN_TIMEOUT=1.0,
        INTER_TOKEN_TIMEOUT=0.5,
        PROVIDER_RETRY_PAUSE=0.02,
        BREAKER_LEAST_CALLS=1000,
    )
    with installation, tenancy.in_tenant(ACME):
        gateway.config.cache_clear()
        await asyncio.to_thread(gateway.gateway().warm_up)
        yield shared
        await gateway.gateway().aclose()
    gateway.config.cache_clear()


def turn(*models: str, seconds: float = 15, content: str = "Hello", degrade: bool = False) -> Turn:
    """A turn about to be asked. Each model is unknown to all circuits."""
    label = uuid4().hex[:8]
    names = [name if "sim-" not in name else f"{name},{label}" for name in models]
    refs = [resolve(name) for name in names] + [LOCAL] * degrade
    request = CompletionRequest(refs[0], (ChatMessage("user", content),), system="Be brief.", max_tokens=500)
    writer = Writer()
    return Turn(
        reply_id=UUID(writer.reply_id), conversation_id=uuid4(), attempt=1, request=request, models=refs,
        configuration=1, writer=writer, calls=Calls(request, writer, Deadline.after(seconds), plenty()),
        last_resort=LOCAL if degrade else None,
    )  # fmt: skip


def plenty() -> Allowance:
    """More is held than any of these turns will ask for."""
    account = Account(uuid4(), 1, uuid4(), None, date(2026, 1, 1))
    return Allowance(account, Limits(), pricing.current(), Decimal(0), Amount(Decimal(1000), 10**9))


def restarts(of: Turn) -> list[ResetReason]:
    assert isinstance(of.writer, Writer)
    return of.writer.restarts


def calls(outcome: Outcome) -> list[str]:
    """What was called and how it ended."""
    return [f"{call.model.provider} {call.error or call.outcome}" for call in outcome.calls]


async def soon(ready: Callable[[], bool]) -> None:
    """Wait until it is so, for three seconds at most."""
    for _ in range(300):
        if ready():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


def consistent(outcome: Outcome) -> None:
    """The reply's sums are the sums of its calls, each at its own price."""
    assert outcome.usage == sum((call.usage for call in outcome.calls), Usage())
    assert outcome.cost == sum((pricing.cost(call.model, call.usage) for call in outcome.calls), Decimal(0))


# --- Again ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    ("fault", "error"),
    [("unavailable", "overloaded"), ("error", "server_error"), ("overloaded", "overloaded"),
     ("overloaded_inside@0", "overloaded"), ("drop@0", "connection_lost"), ("truncate@0", "truncated")],
)  # fmt: skip
async def test_it_asks_again_while_nothing_was_shown(
    simulator: Simulator, wire: str, fault: str, error: str
) -> None:
    simulator.control(faults=[fault])
    outcome = await ask(asked := turn(f"{wire}/{FAST}"))
    assert (outcome.status, outcome.degraded) == (ReplyStatus.COMPLETED, False)
    assert calls(outcome) == [f"{wire} {error}", f"{wire} completed"]
    assert restarts(asked) == [] and simulator.stats()["requests"] == 2
    consistent(outcome)


@pytest.mark.parametrize("wire", WIRES)
async def test_it_waits_as_long_as_it_was_asked_to(simulator: Simulator, wire: str) -> None:
    simulator.control(faults=["rate_limit"], retry_after=1)
    outcome = await ask(turn(f"{wire}/{FAST}"))
    assert calls(outcome) == [f"{wire} rate_limited", f"{wire} completed"]
    assert outcome.calls[0].status == 429
    first, second = simulator.requests()
    assert 1 <= second["at"] - first["at"] < 5


@pytest.mark.parametrize("wire", WIRES)
async def test_another_model_answers_rather_than_a_long_wait(simulator: Simulator, wire: str) -> None:
    other = next(one for one in WIRES if one != wire)
    simulator.control(faults=["rate_limit"], retry_after=60)
    outcome = await ask(turn(f"{wire}/{FAST}", f"{other}/{FAST}"))
    assert calls(outcome) == [f"{wire} rate_limited", f"{other} completed"]
    first, second = simulator.requests()
    assert second["at"] - first["at"] < 10
    assert outcome.degraded and "was not available" in outcome.notice


async def test_a_wait_beyond_the_deadline_is_not_begun(simulator: Simulator) -> None:
    simulator.control(faults=["rate_limit"], retry_after=40)
    began = time.monotonic()
    outcome = await ask(turn(FAST, seconds=30))
    assert (outcome.error_code, calls(outcome)) == ("provider_unavailable", ["openai rate_limited"])
    assert time.monotonic() - began < 15


async def test_the_tries_are_bounded(simulator: Simulator) -> None:
    outcome = await ask(turn("sim-fault=unavailable"))
    assert calls(outcome) == ["openai overloaded"] * 3
    assert (outcome.status, outcome.error_code) == (ReplyStatus.FAILED, "provider_unavailable")
    assert outcome.cost == 0 and outcome.usage == Usage(), "a refusal costs nothing"


@pytest.mark.parametrize("fault", ["bad_request", "content_filter", "unauthorized"])
async def test_what_cannot_succeed_is_not_repeated(simulator: Simulator, fault: str) -> None:
    outcome = await ask(turn(f"sim-fault={fault}"))
    assert len(outcome.calls) == simulator.stats()["requests"] == 1


# --- Another model ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    ("fault", "error"),
    [("drop@5", "connection_lost"), ("truncate@5", "truncated"), ("overloaded_inside@5", "overloaded"),
     ("malformed@5", "malformed_response"), ("stall@5", "timeout"), ("keepalive@5", "timeout")],
)  # fmt: skip
async def test_another_model_takes_over_in_mid_stream(
    simulator: Simulator, wire: str, fault: str, error: str
) -> None:
    other = next(one for one in WIRES if one != wire)
    outcome = await ask(asked := turn(f"{wire}/sim-tps=100,fault={fault}", f"{other}/sim-text=Taken"))
    assert (outcome.status, outcome.degraded, outcome.model.provider) == (ReplyStatus.COMPLETED, True, other)
    assert calls(outcome) == [f"{wire} {error}", f"{other} completed"], (
        "no second try after something was shown"
    )
    assert restarts(asked) == [ResetReason.FAILOVER]
    assert outcome.text == asked.writer.text == "Taken"
    broken = outcome.calls[0]
    assert broken.estimated and broken.usage.output_tokens > 0 and broken.first_token_ms is not None
    assert broken.phase == ("inter_token" if error == "timeout" else "")
    consistent(outcome)


@pytest.mark.parametrize("wire", WIRES)
async def test_a_model_that_never_begins_has_had_its_time(simulator: Simulator, wire: str) -> None:
    began = time.monotonic()
    outcome = await ask(asked := turn(f"{wire}/sim-ttft=60", FAST))
    assert calls(outcome) == [f"{wire} timeout", "openai completed"]
    assert 1 <= time.monotonic() - began < 10
    hung = outcome.calls[0]
    assert (hung.phase, hung.first_token_ms, hung.estimated) == ("first_token", None, True)
    assert hung.usage.input_tokens > 0 == hung.usage.output_tokens, "we hung up: the prompt may be billed"
    assert restarts(asked) == []


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("fault", ["drop@0", "truncate@0"])
async def test_a_prompt_that_was_sent_is_billed_though_nothing_came(
    simulator: Simulator, wire: str, fault: str
) -> None:
    outcome = await ask(turn(f"{wire}/sim-fault={fault}", FAST))
    broken = outcome.calls[0]
    assert broken.estimated and broken.usage.input_tokens > 0 == broken.usage.output_tokens
    consistent(outcome)


async def test_text_stays_when_nobody_can_take_over(simulator: Simulator) -> None:
    with override_settings(ANTHROPIC_API_KEY="", ANTHROPIC_BASE_URL=""):
        gateway.config.cache_clear()
        outcome = await ask(asked := turn("sim-tps=100,fault=drop@5", f"anthropic/{FAST}"))
    assert calls(outcome) == ["openai connection_lost", "anthropic not_configured"]
    assert outcome.text and restarts(asked) == []
    assert (outcome.error_code, outcome.model.provider) == ("provider_unavailable", "openai")
    assert "connection lost" in outcome.error_detail and "No key" in outcome.error_detail


async def test_each_call_is_paid_at_its_own_price(simulator: Simulator) -> None:
    simulator.control(faults=["drop@20"], tokens=40, tps=400)
    outcome = await ask(turn("gpt-4o", "anthropic/claude-haiku-4-5"))
    first, second = outcome.calls
    assert first.charged == pricing.cost(ModelRef("openai", "gpt-4o"), first.usage) > 0
    assert second.charged == pricing.cost(ModelRef("anthropic", "claude-haiku-4-5"), second.usage) > 0
    assert (first.estimated, second.estimated) == (True, False)
    assert outcome.cost == first.charged + second.charged != pricing.cost(second.model, outcome.usage)
    consistent(outcome)


# --- The deadline ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("wire", WIRES)
async def test_the_whole_reply_has_one_deadline(simulator: Simulator, wire: str) -> None:
    began = time.monotonic()
    outcome = await ask(turn(f"{wire}/sim-tps=20,tokens=400", FAST, seconds=1.2))
    assert 1.1 < time.monotonic() - began < 8
    assert (outcome.status, outcome.error_code) == (ReplyStatus.FAILED, "deadline_exceeded")
    assert outcome.error_detail == "The reply was not finished within 1.2 s."
    assert outcome.text and outcome.calls[0].phase == "total" and len(outcome.calls) == 1


async def test_failovers_share_the_deadline(simulator: Simulator) -> None:
    began = time.monotonic()
    outcome = await ask(turn("sim-ttft=60", "anthropic/sim-ttft=60", "sim-ttft=61", seconds=1.5))
    assert 1.4 < time.monotonic() - began < 8
    assert calls(outcome) == ["openai timeout", "anthropic timeout"]
    assert [call.phase for call in outcome.calls] == ["first_token", "total"]
    assert outcome.error_code == "deadline_exceeded"


async def test_waiting_for_a_place_counts(simulator: Simulator) -> None:
    with override_settings(PROVIDER_STREAMS=1, PROVIDER_STREAMS_PER_TENANT=1):
        async with guards.bulkhead("openai").place("somebody"):
            outcome = await ask(turn(FAST, seconds=0.3))
    assert (outcome.error_code, outcome.calls) == ("deadline_exceeded", [])
    assert simulator.stats()["requests"] == 0


# --- Cancelled, and broken -------------------------------------------------------------------------------------------
async def test_a_cancelled_call_is_recorded_and_paid(simulator: Simulator) -> None:
    asked = turn("gpt-4o", content="[[sim: tps=50 tokens=400]]")
    asking = asyncio.create_task(ask(asked))
    await soon(lambda: len(asked.writer.text) > 20)
    shown = count_pieces([asked.writer.text])
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    outcome = ended(asked, ReplyStatus.CANCELLED, "cancelled")
    assert calls(outcome) == ["openai cancelled"] and outcome.calls[0].estimated
    assert outcome.usage.input_tokens and outcome.usage.output_tokens >= shown > 0 and outcome.cost > 0
    consistent(outcome)


async def test_a_mistake_of_ours_loses_no_record(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add(text: str) -> None:
        raise LookupError("a bug")

    asked = turn("gpt-4o")
    monkeypatch.setattr(asked.writer, "add", add)
    outcome = await ask(asked)
    assert (outcome.status, outcome.error_code) == (ReplyStatus.FAILED, "internal_error")
    assert calls(outcome) == ["openai internal_error"] and outcome.cost > 0
    assert guards.bulkhead("openai").taken == 0


# --- Degradation -----------------------------------------------------------------------------------------------------
async def test_the_built_in_model_answers_when_all_others_are_down(simulator: Simulator) -> None:
    asked = turn("sim-fault=unavailable", "anthropic/sim-tps=100,fault=drop@9", degrade=True)
    outcome = await ask(asked)
    assert (outcome.status, outcome.model, outcome.degraded) == (ReplyStatus.COMPLETED, LOCAL, True)
    assert outcome.notice == BUILT_IN_ANSWERED and outcome.notice not in outcome.text
    assert restarts(asked) == [ResetReason.FAILOVER]
    assert calls(outcome)[-2:] == ["anthropic connection_lost", "local completed"]


# --- Circuits --------------------------------------------------------------------------------------------------------
OPENING: dict[str, Any] = {
    "BREAKER_LEAST_CALLS": 6,
    "BREAKER_OPEN_SECONDS": 0.5,
    "BREAKER_PROBES": 2,
    "PROVIDER_TRIES": 1,
}


async def until(state: CircuitState, model: ModelRef) -> None:
    await soon(lambda: guards.circuit(model).state is state)


@pytest.mark.parametrize("wire", WIRES)
async def test_a_model_that_keeps_failing_is_left_alone_and_tried_again(
    simulator: Simulator, wire: str
) -> None:
    model = f"{wire}/sim-{uuid4().hex[:8]}"
    ref = resolve(model)

    def another() -> Turn:
        made = turn(model, FAST)
        made.models[0] = ref
        return made

    with override_settings(**OPENING):
        simulator.control(faults=[{"fault": "unavailable", "times": 6}])
        for _ in range(6):
            assert (await ask(turn_of(ref))).error_code == "provider_unavailable"
        await until(CircuitState.OPEN, ref)
        before = simulator.stats()["requests"]
        skipped = await ask(another())
        assert calls(skipped) == [f"{wire} circuit_open", "openai completed"]
        assert skipped.degraded and simulator.stats()["requests"] == before + 1
        alone = await ask(turn_of(ref))
        assert (alone.error_code, alone.model.name) == ("provider_unavailable", "")
        assert "failed too often" in alone.error_detail
        await asyncio.sleep(0.6)
        for _ in range(OPENING["BREAKER_PROBES"]):
            assert calls(await ask(turn_of(ref))) == [f"{wire} completed"]
        await until(CircuitState.CLOSED, ref)


def turn_of(ref: ModelRef) -> Turn:
    made = turn("local")
    made.models[:] = [ref]
    return made


@pytest.mark.parametrize("fault", ["bad_request", "content_filter", "rate_limit", "unauthorized"])
async def test_what_is_not_the_models_fault_opens_nothing(simulator: Simulator, fault: str) -> None:
    ref = resolve(f"sim-fault={fault},{uuid4().hex[:8]}")
    with override_settings(**OPENING, PROVIDER_PATIENCE=0):
        for _ in range(10):
            await ask(turn_of(ref))
        await asyncio.sleep(0.1)
        assert guards.circuit(ref).state is CircuitState.CLOSED
    assert simulator.stats()["requests"] == 10


async def test_models_are_asked_as_ever_while_valkey_is_away(simulator: Simulator) -> None:
    with override_settings(RATE_LIMIT_URL="redis://127.0.0.1:1", **OPENING):
        ref = resolve(f"sim-fault=error,{uuid4().hex[:8]}")
        for _ in range(10):
            assert (await ask(turn_of(ref))).error_code == "provider_error"
        assert calls(await ask(turn(FAST))) == ["openai completed"]
    assert simulator.stats()["requests"] == 11


# --- Places ----------------------------------------------------------------------------------------------------------
async def reply_for(tenant: TenantRef, model: str) -> Outcome:
    """A reply of one tenant."""
    with tenancy.in_tenant(tenant):
        return await ask(turn(model))


def done(replies: list[asyncio.Task[Outcome]]) -> int:
    return sum(reply.done() for reply in replies)


async def test_one_tenants_burst_does_not_starve_the_other(simulator: Simulator) -> None:
    with override_settings(PROVIDER_STREAMS=8, PROVIDER_STREAMS_PER_TENANT=6, FIRST_TOKEN_TIMEOUT=10):
        burst = [asyncio.create_task(reply_for(ACME, "sim-ttft=1.5,tokens=2")) for _ in range(18)]
        await soon(lambda: guards.bulkhead("openai").waiting == 12)
        assert guards.bulkhead("openai").taken == 6
        for _ in range(4):
            assert (await reply_for(GLOBEX, "sim-tokens=2")).status == ReplyStatus.COMPLETED
        assert done(burst) <= 6, "one of its places was free at once"
        answers = await asyncio.gather(*burst)
    assert {outcome.status for outcome in answers} == {ReplyStatus.COMPLETED}
    assert (guards.bulkhead("openai").taken, guards.bulkhead("openai").waiting) == (0, 0)


async def test_tenants_take_turns_when_all_places_are_taken(simulator: Simulator) -> None:
    with override_settings(PROVIDER_STREAMS=4, PROVIDER_STREAMS_PER_TENANT=4, FIRST_TOKEN_TIMEOUT=10):
        burst = [asyncio.create_task(reply_for(ACME, "sim-ttft=0.5,tokens=2")) for _ in range(20)]
        await soon(lambda: guards.bulkhead("openai").waiting == 16)
        assert (await reply_for(GLOBEX, "sim-tokens=2")).status == ReplyStatus.COMPLETED
        assert done(burst) <= 8, "16 were before it"
        await asyncio.gather(*burst)


async def test_a_provider_that_hangs_does_not_starve_the_others(simulator: Simulator) -> None:
    waits = {"PROVIDER_QUEUE_TIMEOUT": 0.9, "FIRST_TOKEN_TIMEOUT": 2.0}
    with override_settings(PROVIDER_STREAMS=4, PROVIDER_STREAMS_PER_TENANT=4, **waits):
        hanging = [asyncio.create_task(reply_for(ACME, "anthropic/sim-ttft=60")) for _ in range(12)]
        await soon(lambda: guards.bulkhead("anthropic").waiting == 8)
        assert (await reply_for(ACME, "sim-tokens=2")).status == ReplyStatus.COMPLETED
        assert done(hanging) == 0
        answers = await asyncio.gather(*hanging)
    kinds = [calls(outcome) for outcome in answers]
    assert kinds.count(["anthropic timeout"]) == 4
    assert kinds.count(["anthropic no_place"]) == 8, "they did not wait longer than they had to"
    codes = {outcome.error_code for outcome in answers}
    assert codes == {"deadline_exceeded", "provider_unavailable"}
    assert guards.bulkhead("anthropic").taken == 0
