"""No place is lost, none is given twice, and nobody waits for ever, whatever the order of events."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from chatplatform.resilience.bulkhead import Bulkhead

KEYS = ["acme", "globex", "initech"]


class Places(RuleBasedStateMachine):
    """Callers come, leave, are cancelled and run into time-outs, with and without the loop running in between."""

    @initialize(places=st.integers(1, 5), per_key=st.integers(1, 5))
    def begin(self, places: int, per_key: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.bulkhead = Bulkhead(places, per_key)
        self.inside: Counter[str] = Counter()
        self.callers: list[tuple[asyncio.Task[None], asyncio.Event]] = []

    async def caller(self, key: str, leave: asyncio.Event, within: float | None) -> None:
        async with self.bulkhead.place(key, within):
            self.inside[key] += 1
            try:
                await leave.wait()
            finally:
                self.inside[key] -= 1

    def run(self) -> None:
        for _ in range(5):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()

    @rule(key=st.sampled_from(KEYS), within=st.sampled_from([None, None, 0.0]))
    def come(self, key: str, within: float | None) -> None:
        leave = asyncio.Event()
        self.callers.append((self.loop.create_task(self.caller(key, leave, within)), leave))

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        if self.callers:
            data.draw(st.sampled_from(self.callers))[1].set()

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.callers:
            data.draw(st.sampled_from(self.callers))[0].cancel()

    @rule()
    def one_step(self) -> None:
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    @rule()
    def settle(self) -> None:
        """When nothing is in flight: whoever is in has a place, and nobody waits who could have one."""
        self.run()
        assert self.bulkhead.taken == self.inside.total()
        assert all(self.bulkhead.held_by(key) == self.inside[key] for key in KEYS)
        waiting = [task for task, _ in self.callers if not task.done()]
        assert self.bulkhead.waiting == len(waiting) - self.inside.total()
        if self.bulkhead.taken < self.bulkhead.places:
            queued = {key for key in KEYS if self.bulkhead._queues.get(key)}
            assert all(self.inside[key] == self.bulkhead.per_key for key in queued)

    @invariant()
    def the_caps_hold(self) -> None:
        if hasattr(self, "bulkhead"):
            assert self.bulkhead.taken <= self.bulkhead.places
            assert all(self.bulkhead.held_by(key) <= self.bulkhead.per_key for key in KEYS)
            assert self.inside.total() <= self.bulkhead.taken

    def teardown(self) -> None:
        if not hasattr(self, "bulkhead"):
            return
        for _ in range(len(self.callers) + 1):
            for _, leave in self.callers:
                leave.set()
            self.run()
        assert all(task.done() for task, _ in self.callers), "everybody had a turn"
        assert (self.bulkhead.taken, self.bulkhead.waiting) == (0, 0)
        assert not self.bulkhead._held and not self.bulkhead._queues
        for task, _ in self.callers:
            if not task.cancelled():
                assert isinstance(task.exception(), TimeoutError | None)
        self.loop.close()


TestPlaces = Places.TestCase
TestPlaces.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


async def test_those_who_wait_are_served_by_turns() -> None:
    bulkhead, served = Bulkhead(1, 1), list[str]()

    async def caller(key: str) -> None:
        async with bulkhead.place(key):
            served.append(key)
            await asyncio.sleep(0)

    await asyncio.gather(*map(caller, ["acme"] * 50 + ["globex"] * 2 + ["initech"]))
    # The first walked in; from then on all wait, and tenants take turns.
    assert served[:6] == ["acme", "acme", "globex", "initech", "acme", "globex"]
    assert Counter(served) == {"acme": 50, "globex": 2, "initech": 1}


async def test_a_key_that_has_its_share_leaves_the_rest_to_others() -> None:
    bulkhead, leave = Bulkhead(10, 8), asyncio.Event()

    async def caller(key: str) -> None:
        async with bulkhead.place(key):
            await leave.wait()

    burst = [asyncio.create_task(caller("acme")) for _ in range(100)]
    await asyncio.sleep(0)
    async with bulkhead.place("globex", within=0.001):
        assert (bulkhead.held_by("acme"), bulkhead.held_by("globex"), bulkhead.waiting) == (8, 1, 92)
    leave.set()
    await asyncio.gather(*burst)
    assert bulkhead.taken == 0


async def test_it_says_when_there_is_no_place_in_time() -> None:
    bulkhead = Bulkhead(1, 1)
    async with bulkhead.place("acme"):
        with pytest.raises(TimeoutError):
            async with bulkhead.place("globex", within=0.01):
                raise AssertionError("there is none")
        assert (bulkhead.taken, bulkhead.waiting) == (1, 0)
    async with bulkhead.place("globex", within=0.01):
        assert bulkhead.taken == 1
