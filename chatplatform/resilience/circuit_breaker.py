"""A circuit breaker that all processes share: who keeps failing is left alone for a while, then tried carefully.

closed: calls pass, and their results are counted over a window. Too many failures: open, nobody calls. After a
while half-open: a few probes may call, from all processes together. If they succeed the circuit closes, if one
fails it opens again.

The truth is one hash in Valkey, changed by one script, on Valkey's clock. Each process has a copy of it: a caller
looks at the copy and waits for nothing, except for the one round trip in which it asks to be a probe. Results are
collected and sent in the background, at most every second while all is well; the answer renews the copy. While
Valkey is away every call passes.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

SCRIPT = (Path(__file__).parent / "breaker.lua").read_text()
SHA = hashlib.sha1(SCRIPT.encode()).hexdigest()  # as Valkey itself names it
FRESH = 1.0  # s that a copy is good for, between two reports, and between two tries while Valkey is away


class CircuitState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class CircuitOpen(Exception):
    """The circuit is open, or has given out its probes. `retry_after` is when to ask again, in seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"the circuit is open for another {retry_after:.1f} s")
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a circuit opens and closes. Times in seconds.

    It opens when at least `least_calls` ended within `window` and a share of `failure_rate` of them failed, for
    `open_for`. Then `probes` calls may probe; as many successes close it. Probes that say nothing for `probe_for`
    are replaced by others.
    """

    window: float = 30.0
    least_calls: int = 20
    failure_rate: float = 0.5
    open_for: float = 15.0
    probes: int = 3
    probe_for: float = 60.0

    def arguments(self) -> list[int | float]:
        return [
            int(self.window * 1000),
            self.least_calls,
            self.failure_rate,
            int(self.open_for * 1000),
            self.probes,
            int(self.probe_for * 1000),
        ]


@dataclass(slots=True)
class _Results:
    """What is to be reported."""

    good: int = 0
    bad: int = 0
    round: str = ""
    probe_good: int = 0
    probe_bad: int = 0
    probe_back: int = 0

    def __bool__(self) -> bool:
        return bool(self.good or self.bad or self.probe_good or self.probe_bad or self.probe_back)


def _ignore(*_: object) -> None:
    """Nobody wants to know."""


class CircuitBreaker:
    """One circuit as one event loop sees it. `on_state` is told each new state, `on_away` each failure of Valkey."""

    def __init__(
        self,
        redis: Redis,
        key: str,
        policy: BreakerPolicy,
        *,
        on_state: Callable[[CircuitState], None] = _ignore,
        on_away: Callable[[RedisError], None] = _ignore,
    ) -> None:
        self._redis, self._key, self._policy = redis, key, policy
        self._on_state, self._on_away = on_state, on_away
        self._state = CircuitState.CLOSED
        self._shut_until = 0.0  # no call before, on the monotonic clock
        self._stale_at = 0.0
        self._results = _Results()
        self._asking = False
        self._hurry = asyncio.Event()
        self._reporter: asyncio.Task[None] | None = None

    @property
    def state(self) -> CircuitState:
        """As the copy has it."""
        return self._state

    def check(self) -> None:
        """Raises CircuitOpen if a call would certainly be refused now. Waits for nothing."""
        now = time.monotonic()
        if now >= self._stale_at:
            self._report_soon()
        if self._state is not CircuitState.CLOSED and now < self._shut_until:
            raise CircuitOpen(self._shut_until - now)

    async def enter(self) -> Permit:
        """Leave to call. Raises CircuitOpen."""
        self.check()
        if self._state is CircuitState.CLOSED:
            return Permit(self)
        if self._asking:
            raise CircuitOpen(FRESH)
        self._asking = True
        try:
            return await self._probe()
        finally:
            self._asking = False

    async def _probe(self) -> Permit:
        try:
            granted, round = await self._exchange(_Results(), wants_probe=True)
        except RedisError as error:
            self._away(error)
            return Permit(self)
        if granted:
            return Permit(self, round)
        if self._state is CircuitState.CLOSED:
            return Permit(self)
        raise CircuitOpen(max(0.0, self._shut_until - time.monotonic()))

    def close(self) -> None:
        """Stop reporting."""
        if self._reporter:
            self._reporter.cancel()

    # --- Results ---------------------------------------------------------------------------------------------------
    def note(self, *, good: bool) -> None:
        """An ordinary call ended. Failures are reported at once."""
        if good:
            self._results.good += 1
        else:
            self._results.bad += 1
            self._hurry.set()
        self._report_soon()

    def note_probe(self, round: str, *, good: bool | None) -> None:
        """A probe ended; None: without having shown anything."""
        results = self._results
        if results.round != round:
            results.round, results.probe_good, results.probe_bad, results.probe_back = round, 0, 0, 0
        results.probe_good += good is True
        results.probe_bad += good is False
        results.probe_back += good is None
        self._hurry.set()
        self._report_soon()

    def _report_soon(self) -> None:
        if self._reporter is None or self._reporter.done():
            # Without a context: the task outlives the call, and the tenant, that happens to be the first.
            self._reporter = asyncio.get_running_loop().create_task(self._report(), context=Context())

    async def _report(self) -> None:
        """Send what there is, then at most once a second (at once after a failure) until there is nothing more."""
        while True:
            self._hurry.clear()
            results, self._results = self._results, _Results()
            try:
                await self._exchange(results)
            except RedisError as error:
                self._away(error)  # and the results are forgotten: they are about a time that has passed
                await asyncio.sleep(FRESH)
            else:
                if _is_cancelled():
                    return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(FRESH):
                        await self._hurry.wait()
            if not self._results:
                return

    async def _exchange(self, results: _Results, *, wants_probe: bool = False) -> tuple[bool, str]:
        """Report and ask in one round trip, and renew the copy: whether we may probe, and in which round."""
        arguments = [
            *self._policy.arguments(),
            results.good,
            results.bad,
            int(wants_probe),
            results.round,
            results.probe_good,
            results.probe_bad,
            results.probe_back,
        ]
        try:
            answer: Any = await self._redis.evalsha(SHA, 1, self._key, *arguments)
        except NoScriptError:
            answer = await self._redis.eval(SCRIPT, 1, self._key, *arguments)
        state, wait, round, granted = answer
        self._renew(CircuitState(state.decode()), wait / 1000)
        return bool(granted), round.decode()

    def _renew(self, state: CircuitState, wait: float) -> None:
        now = time.monotonic()
        self._stale_at = now + FRESH
        # Others' probes may close a half-open circuit at any time: look again soon.
        self._shut_until = now + (min(wait, FRESH) if state is CircuitState.HALF_OPEN else wait)
        if state is not self._state:
            self._state = state
            self._on_state(state)

    def _away(self, error: RedisError) -> None:
        self._on_away(error)
        self._renew(CircuitState.CLOSED, 0.0)


def _is_cancelled() -> bool:
    """Whether somebody wants this task to end. redis-py may have taken no notice: Python 3.11's `wait_for`, which it
    uses, loses a cancellation that comes together with what it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class Permit:
    """Leave to make one call. Whoever got it says how the call ended; what is said later does not count."""

    __slots__ = ("_breaker", "_ended", "_round")

    def __init__(self, breaker: CircuitBreaker, round: str = "") -> None:
        self._breaker, self._round, self._ended = breaker, round, False

    @property
    def is_probe(self) -> bool:
        return bool(self._round)

    def answering(self) -> None:
        """A first sign of life. A probe has shown what it was for, and is an ordinary call from now on."""
        if self._round:
            self._breaker.note_probe(self._round, good=True)
            self._round = ""

    def end(self, good: bool | None) -> None:
        """The call went well, failed, or (None) said nothing about who was called."""
        if self._ended:
            return
        self._ended = True
        if self._round:
            self._breaker.note_probe(self._round, good=good)
        elif good is not None:
            self._breaker.note(good=good)
