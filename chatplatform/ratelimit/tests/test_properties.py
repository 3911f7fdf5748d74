"""Any interleaving of calls, corrections and time, on a real Valkey, against a plain model."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from chatplatform.ratelimit import Decision, Level, Limiter, Unit
from chatplatform.ratelimit.limiter import CELLS, MICRO
from chatplatform.ratelimit.tests.clock import CLOCKED, Clock
from chatplatform.ratelimit.tests.model import Model

WINDOW = 60 * MICRO
SPAN = WINDOW // CELLS
PAUSES = (
    0,
    1,
    SPAN - 1,
    SPAN,
    SPAN + 1,
    WINDOW // 7,
    WINDOW - SPAN,
    WINDOW - 1,
    WINDOW,
    WINDOW + 1,
    3 * WINDOW,
)
PLACES = [("acme", "ann"), ("acme", "bob"), ("globex", "ann"), ("globex", None)]


def limit(largest: int) -> st.SearchStrategy[int | None]:
    return st.one_of(st.none(), st.integers(0, largest), st.integers(1, largest))


class Interleaving(RuleBasedStateMachine):
    """Two tenants, three users, one global level."""

    valkey: Any

    def __init__(self) -> None:
        super().__init__()
        self.valkey.flushdb()
        self.clock = Clock(self.valkey)
        self.limiter = Limiter(self.valkey, WINDOW / MICRO, CLOCKED)
        self.model = Model(WINDOW, SPAN)
        self.calls: list[tuple[str, str]] = []

    @initialize(
        user=limit(3), requests=limit(6), tokens=limit(60), all_requests=limit(9), all_tokens=limit(90)
    )
    def configure(self, user: int | None, requests: int | None, tokens: int | None,
                  all_requests: int | None, all_tokens: int | None) -> None:  # fmt: skip
        self.user, self.tenant, self.everybody = user, (requests, tokens), (all_requests, all_tokens)

    def levels(self, tenant: str, user: str | None) -> list[Level]:
        found = [Level("tenant", tenant, *self.tenant), Level("global", "global", *self.everybody)]
        return found if user is None else [Level("user", f"{tenant}:{user}", self.user), *found]

    def ask(self, levels: list[Level], call: str, tokens: int) -> Decision:
        """Ask both, and compare what they say."""
        now = self.clock.now
        expected = self.model.wait(levels, tokens, now)
        decision = self.limiter.admit(levels, tokens=tokens, call=f"call:{call}")
        assert decision.passed == (expected == 0)
        if decision.passed:
            self.model.admit(levels, call, tokens, now)
            self.check_limits(levels)
        else:
            assert decision.refusal is not None
            waits = decision.refusal.retry_after
            assert (None if waits is None else round(waits * MICRO)) == expected
        self.check_standings(levels, decision)
        return decision

    def check_limits(self, levels: list[Level]) -> None:
        for level in levels:
            requests, tokens = self.model.in_any_window(level.key, self.clock.now)
            assert level.requests is None or requests <= level.requests
            assert level.tokens is None or tokens <= level.tokens

    def check_standings(self, levels: list[Level], decision: Decision) -> None:
        keys = {level.name: level.key for level in levels}
        for one in decision.standings:
            used = self.model.used(keys[one.level], self.clock.now)[one.unit is Unit.TOKENS]
            assert one.remaining == max(one.limit - used, 0)
            still = [e for e in self.model.entries.get(keys[one.level], [])
                     if self.model.leaves(keys[one.level], e) > self.clock.now]  # fmt: skip
            frees = min(
                (self.model.leaves(keys[one.level], e) for e in still), default=self.clock.now + WINDOW
            )
            assert round(one.resets_in * MICRO) == frees - self.clock.now

    @rule(place=st.sampled_from(PLACES), tokens=st.integers(0, 40), patient=st.booleans())
    def call(self, place: tuple[str, str | None], tokens: int, patient: bool) -> None:
        levels, call = self.levels(*place), str(len(self.calls))
        self.calls.append((place[0], call))
        decision = self.ask(levels, call, tokens)
        wait = decision.refusal and decision.refusal.retry_after
        if patient and wait:
            self.clock.forward(round(wait * MICRO) - 1)
            early = self.ask(levels, call, tokens)
            assert early.refusal is not None
            assert early.refusal.retry_after == pytest.approx(1 / MICRO)
            self.clock.forward(1)
            assert self.ask(levels, call, tokens).passed

    @rule(pause=st.one_of(st.sampled_from(PAUSES), st.integers(0, WINDOW)))
    def time_passes(self, pause: int) -> None:
        self.clock.forward(pause)

    @rule(which=st.integers(0, 50), tokens=st.integers(0, 60), times=st.integers(1, 2))
    def correct(self, which: int, tokens: int, times: int) -> None:
        tenant, call = self.calls[which % len(self.calls)] if self.calls else ("acme", "unknown")
        levels = self.levels(tenant, None)
        self.model.correct(levels, call, tokens)
        for _ in range(times):
            self.limiter.correct(levels, f"call:{call}", tokens)

    @rule(place=st.sampled_from(PLACES))
    def look(self, place: tuple[str, str | None]) -> None:
        levels = self.levels(*place)
        self.check_standings(levels, self.limiter.look(levels))

    @invariant()
    def everything_expires(self) -> None:
        for key in self.valkey.scan_iter():
            assert key == b"clock" or 0 < self.valkey.pttl(key) <= WINDOW / 1000 + 1000


def test_any_interleaving_is_as_the_model_says(valkey: Any) -> None:
    Interleaving.valkey = valkey
    run_state_machine_as_test(
        Interleaving,
        settings=settings(
            max_examples=80,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
