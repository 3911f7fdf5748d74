"""The circuit as all processes share it, on a real Valkey."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.exceptions import RedisError

from chatplatform.resilience.circuit_breaker import (
    SCRIPT,
    BreakerPolicy,
    CircuitBreaker,
    CircuitOpen,
    CircuitState,
    Permit,
)

LONG = BreakerPolicy(window=600, least_calls=6, failure_rate=0.5, open_for=600, probes=2, probe_for=600)
BRIEF = replace(LONG, open_for=0.2)
QUICKLY = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Circuit:
    """The script by itself, in a circuit of its own."""

    def __init__(self, address: str, policy: BreakerPolicy) -> None:
        self.redis: Any = redis.Redis.from_url(address)
        self.key, self.policy = f"test:circuit:{uuid4()}", policy

    def call(self, good: int = 0, bad: int = 0, probe: bool = False, **probed: Any) -> tuple[str, str, bool]:
        """State, round, and whether we may probe."""
        results = [probed.get(name, 0) for name in ("passed", "failed", "back")]
        state, _, round, granted = self.redis.eval(
            SCRIPT, 1, self.key, *self.policy.arguments(), good, bad, int(probe), probed.get("round", ""), *results
        )  # fmt: skip
        return state.decode(), round.decode(), bool(granted)


# --- The script against a model ------------------------------------------------------------------------------------
@QUICKLY
@given(reports=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=12))
def test_it_opens_exactly_when_enough_of_enough_calls_failed(
    address: str, reports: list[tuple[int, int]]
) -> None:
    circuit, seen, failed, expected = Circuit(address, LONG), 0, 0, "closed"
    for good, bad in reports:
        seen, failed = seen + good + bad, failed + bad
        if bad and seen >= LONG.least_calls and failed >= LONG.failure_rate * seen:
            expected = "open"
        assert circuit.call(good, bad)[0] == expected
        if expected == "open":
            break


@QUICKLY
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["ask", "passed", "failed", "back", "ordinary"]), st.integers(0, 9)),
        max_size=30,
    )
)
def test_probes_are_few_and_decide(address: str, steps: list[tuple[str, int]]) -> None:
    """Whoever asks, reports, reports late: never more probes out than allowed, and the model's verdict."""
    circuit = Circuit(address, replace(LONG, open_for=0))
    circuit.call(bad=LONG.least_calls)
    out: list[str] = []  # the rounds of the probes that are under way
    state, current, given_out, passed = "open", "", 0, 0
    for step, which in steps:
        if state == "closed":
            break
        if step == "ask":
            state, round, granted = circuit.call(probe=True)
            if round != current:
                current, given_out, passed = round, 0, 0
            assert state == "half_open"
            assert granted == (given_out < LONG.probes)
            given_out += granted
            out += [round] * granted
        elif step == "ordinary":
            assert circuit.call(good=3, bad=9)[0] == state, "begun before the circuit opened"
        elif out:
            round = out.pop(which % len(out))
            probed: dict[str, Any] = {"round": round, step: 1}
            now, _, _ = circuit.call(**probed)
            if state == "half_open" and round == current:
                given_out -= step == "back"
                passed += step == "passed"
                state = "open" if step == "failed" else "closed" if passed == LONG.probes else state
            assert now == state


def test_old_results_leave_the_window(address: str) -> None:
    circuit = Circuit(address, replace(LONG, window=0.5))
    circuit.call(bad=5)
    time.sleep(0.6)
    assert circuit.call(bad=5)[0] == "closed"
    assert circuit.call(bad=1)[0] == "open"


def test_probes_that_never_come_back_are_replaced(address: str) -> None:
    circuit = Circuit(address, replace(LONG, open_for=0, probe_for=0.2))
    circuit.call(bad=6)
    _, first, _ = circuit.call(probe=True)
    assert [circuit.call(probe=True)[2] for _ in range(3)] == [True, False, False]
    time.sleep(0.25)
    state, second, granted = circuit.call(probe=True)
    assert (state, granted) == ("half_open", True) and second != first
    assert circuit.call(round=first, failed=1)[0] == "half_open", "the old ones have no say"


def test_it_leaves_nothing_behind_for_ever(address: str) -> None:
    circuit = Circuit(address, LONG)
    reports: list[dict[str, Any]] = [{"good": 1}, {"bad": 9}, {"probe": True}]
    for report in reports:
        circuit.call(**report)
        assert 0 < circuit.redis.pttl(circuit.key) <= 1_200_000


# --- Processes that share it -----------------------------------------------------------------------------------------
def breakers(valkey: Redis, policy: BreakerPolicy, count: int = 2) -> list[CircuitBreaker]:
    """As many processes have them: they share nothing but Valkey."""
    key = f"test:circuit:{uuid4()}"
    return [CircuitBreaker(valkey, key, policy) for _ in range(count)]


async def fail(breaker: CircuitBreaker, times: int) -> None:
    for _ in range(times):
        (await breaker.enter()).end(False)


async def until(state: CircuitState, breaker: CircuitBreaker, within: float = 3.0) -> None:
    async with asyncio.timeout(within):
        while breaker.state is not state:
            with suppress(CircuitOpen):
                breaker.check()
            await asyncio.sleep(0.01)


async def test_failures_in_one_process_stop_all(valkey: Redis) -> None:
    mine, theirs = breakers(valkey, LONG)
    await fail(mine, 3)
    await fail(theirs, 3)
    await asyncio.gather(until(CircuitState.OPEN, mine), until(CircuitState.OPEN, theirs))
    for breaker in (mine, theirs):
        with pytest.raises(CircuitOpen) as refused:
            await breaker.enter()
        assert 590 < refused.value.retry_after <= 600


async def test_it_closes_when_the_probes_succeed(valkey: Redis) -> None:
    mine, theirs = breakers(valkey, BRIEF)
    await fail(mine, 6)
    await until(CircuitState.OPEN, mine)
    await asyncio.sleep(0.25)
    first, second = await mine.enter(), await theirs.enter()
    # The other process had a copy that said closed, so only one of them knows that it probes.
    assert first.is_probe and not second.is_probe
    await until(CircuitState.HALF_OPEN, theirs)
    other = await theirs.enter()
    assert other.is_probe
    for breaker in (mine, theirs):
        with pytest.raises(CircuitOpen):
            await breaker.enter()
    first.answering()
    other.end(True)
    await asyncio.gather(until(CircuitState.CLOSED, mine), until(CircuitState.CLOSED, theirs))


async def test_it_opens_again_when_a_probe_fails(valkey: Redis) -> None:
    [breaker] = breakers(valkey, BRIEF, 1)
    await fail(breaker, 6)
    await until(CircuitState.OPEN, breaker)
    await asyncio.sleep(0.25)
    probe = await breaker.enter()
    probe.end(False)
    probe.end(True)  # too late
    await until(CircuitState.OPEN, breaker)


async def test_a_probe_that_was_cancelled_makes_room_for_another(valkey: Redis) -> None:
    [breaker] = breakers(valkey, replace(BRIEF, probes=1), 1)
    await fail(breaker, 6)
    await until(CircuitState.OPEN, breaker)
    await asyncio.sleep(0.25)
    (await breaker.enter()).end(None)
    async with asyncio.timeout(3):
        while True:
            with suppress(CircuitOpen):
                assert (await breaker.enter()).is_probe
                return
            await asyncio.sleep(0.01)


async def test_only_a_few_of_many_who_come_at_once_may_probe(valkey: Redis) -> None:
    processes = breakers(valkey, BRIEF, 4)
    await fail(processes[0], 6)
    await asyncio.gather(*(until(CircuitState.OPEN, breaker) for breaker in processes))
    await asyncio.sleep(0.25)
    entered = await asyncio.gather(
        *(breaker.enter() for breaker in processes for _ in range(50)), return_exceptions=True
    )
    permits = [one for one in entered if isinstance(one, Permit)]
    assert len(permits) == BRIEF.probes and all(permit.is_probe for permit in permits)
    assert all(isinstance(one, Permit | CircuitOpen) for one in entered)


async def test_every_call_passes_while_valkey_is_away() -> None:
    away: list[RedisError] = []
    nobody = Redis.from_url("redis://127.0.0.1:1", socket_connect_timeout=0.2)
    breaker = CircuitBreaker(nobody, "test:circuit", LONG, on_away=away.append)
    began = time.monotonic()
    for _ in range(100):
        (await breaker.enter()).end(False)
        await asyncio.sleep(0)
    assert time.monotonic() - began < 0.2, "nobody waits for it"
    await asyncio.sleep(0.3)
    assert 1 <= len(away) <= 2 and breaker.state is CircuitState.CLOSED
    breaker.close()


async def test_a_flush_of_valkey_closes_it(valkey: Redis) -> None:
    [breaker] = breakers(valkey, LONG, 1)
    await fail(breaker, 6)
    await until(CircuitState.OPEN, breaker)
    await valkey.delete(breaker._key)
    await valkey.script_flush()
    await until(CircuitState.CLOSED, breaker)


async def test_good_calls_cost_a_round_trip_a_second_for_all_together(valkey: Redis) -> None:
    [breaker] = breakers(valkey, LONG, 1)
    asked = 0
    exchange = breaker._exchange

    async def counted(*args: Any, **more: Any) -> Any:
        nonlocal asked
        asked += 1
        return await exchange(*args, **more)

    breaker._exchange = counted  # type: ignore[method-assign]
    began = time.monotonic()
    while time.monotonic() - began < 1.5:
        for _ in range(100):
            (await breaker.enter()).end(True)
        await asyncio.sleep(0.01)
    assert asked <= 3
