"""The limiter by itself, on a real Valkey."""

from __future__ import annotations

import struct
import threading
import time
from typing import Any

import pytest

from chatplatform.ratelimit import Level, Limiter, Unavailable, Unit
from chatplatform.ratelimit.limiter import CELLS, LARGEST, MICRO
from chatplatform.ratelimit.tests.clock import CLOCKED, Clock

USER = Level("user", "user", 2)
TENANT = Level("tenant", "tenant", 5, 100)
WINDOW = 60 * MICRO
SPAN = WINDOW // CELLS


@pytest.fixture
def limiter(valkey: Any) -> Limiter:
    return Limiter(valkey)


@pytest.fixture
def clock(valkey: Any) -> Clock:
    return Clock(valkey)


@pytest.fixture
def clocked(valkey: Any, clock: Clock) -> Limiter:
    return Limiter(valkey, admit=CLOCKED)


def contents(valkey: Any) -> dict[bytes, Any]:
    kinds: dict[bytes, Any] = {
        b"list": lambda key: valkey.lrange(key, 0, -1),
        b"hash": lambda key: valkey.hgetall(key),
    }
    return {key: kinds[valkey.type(key)](key) for key in valkey.scan_iter()}


def used(limiter: Limiter, level: Level) -> dict[Unit, int]:
    return {one.unit: one.limit - one.remaining for one in limiter.look([level]).standings}


def test_it_tells_what_is_left_and_when_more_is(limiter: Limiter) -> None:
    limiter.admit([USER, TENANT], tokens=30)
    decision = limiter.admit([USER, TENANT], tokens=20)
    assert [(one.level, one.unit, one.limit, one.remaining) for one in decision.standings] == [
        ("user", Unit.REQUESTS, 2, 0),
        ("tenant", Unit.REQUESTS, 5, 3),
        ("tenant", Unit.TOKENS, 100, 50),
    ]
    assert all(55 < one.resets_in <= 60 for one in decision.standings)


def test_it_consumes_at_every_level_or_at_none(valkey: Any, limiter: Limiter) -> None:
    other = Level("user", "other", 2)
    for _ in range(2):
        assert limiter.admit([USER, TENANT], tokens=10, call="call").passed
    before = contents(valkey)
    for _ in range(20):
        refused = limiter.admit([USER, TENANT], tokens=10, call="refused").refusal
        assert refused
        assert (refused.level, refused.unit, refused.limit) == ("user", Unit.REQUESTS, 2)
    refused = limiter.admit([other, TENANT], tokens=81, call="refused").refusal
    assert refused
    assert (refused.level, refused.unit) == ("tenant", Unit.TOKENS)
    assert contents(valkey) == before


def test_looking_consumes_nothing(valkey: Any, limiter: Limiter) -> None:
    limiter.admit([TENANT], tokens=10)
    before = contents(valkey)
    assert used(limiter, TENANT) == {Unit.REQUESTS: 1, Unit.TOKENS: 10}
    assert limiter.look([Level("tenant", "never seen", 3)]).standings[0].remaining == 3
    assert contents(valkey) == before


def test_calls_of_one_moment_are_all_counted(clocked: Limiter) -> None:
    assert [clocked.admit([TENANT], tokens=1).passed for _ in range(8)] == [True] * 5 + [False] * 3
    assert used(clocked, TENANT) == {Unit.REQUESTS: 5, Unit.TOKENS: 5}


def test_a_refusal_tells_the_longest_of_all_waits(clocked: Limiter, clock: Clock) -> None:
    clocked.admit([TENANT], tokens=60)
    clock.forward(10 * MICRO)
    for _ in range(2):
        clocked.admit([USER, TENANT], tokens=10)
    clock.forward(5 * MICRO)
    refused = clocked.admit([USER, TENANT], tokens=50).refusal
    assert refused
    assert (refused.level, refused.retry_after) == ("user", 55.0)
    refused = clocked.admit([TENANT], tokens=50).refusal
    assert refused
    assert (refused.level, refused.unit, refused.retry_after) == ("tenant", Unit.TOKENS, 45.0)


def test_a_call_that_can_never_pass_is_told_so(limiter: Limiter) -> None:
    for level in (Level("tenant", "a", None, 99), Level("tenant", "b", 0, None)):
        refused = limiter.admit([level], tokens=100).refusal
        assert refused
        assert refused.retry_after is None


def test_a_limit_that_was_lowered_holds_at_once(clocked: Limiter, clock: Clock) -> None:
    for _ in range(5):
        clocked.admit([TENANT])
        clock.forward(MICRO)
    lower = Level("tenant", "tenant", 2)
    refused = clocked.admit([lower]).refusal
    assert refused
    assert refused.retry_after == 60 - 2  # until the first four have left
    assert clocked.look([lower]).standings[0].remaining == 0


def test_a_correction_counts_from_when_the_call_was_let_through(clocked: Limiter, clock: Clock) -> None:
    clocked.admit([TENANT], tokens=80, call="call:1")
    clock.forward(30 * MICRO)
    clocked.admit([TENANT], tokens=20, call="call:2")
    assert not clocked.admit([TENANT], tokens=60).passed
    for _ in range(3):
        clocked.correct([TENANT], "call:1", 15)
    assert used(clocked, TENANT)[Unit.TOKENS] == 35
    assert clocked.admit([TENANT], tokens=60).passed
    clock.forward(30 * MICRO)
    assert used(clocked, TENANT)[Unit.TOKENS] == 80


def test_a_correction_may_be_upwards_and_be_corrected_again(clocked: Limiter) -> None:
    clocked.admit([TENANT], tokens=80, call="call")
    clocked.correct([TENANT], "call", 300)
    assert used(clocked, TENANT)[Unit.TOKENS] == 100  # more than all
    clocked.correct([TENANT], "call", 0)
    assert used(clocked, TENANT)[Unit.TOKENS] == 0


def test_a_correction_that_is_late_or_of_an_unknown_call_changes_nothing(
    valkey: Any, clocked: Limiter, clock: Clock
) -> None:
    clocked.correct([TENANT], "unknown", 40)
    assert contents(valkey) == {b"clock": contents(valkey)[b"clock"]}
    clocked.admit([TENANT], tokens=80, call="call")
    clock.forward(WINDOW)
    clocked.admit([TENANT], tokens=10)
    clocked.correct([TENANT], "call", 0)
    assert used(clocked, TENANT)[Unit.TOKENS] == 10
    valkey.flushdb()
    clock.set(clock.now)
    clocked.correct([TENANT], "call", 0)
    assert used(clocked, TENANT)[Unit.TOKENS] == 0


def test_a_level_stays_small_however_many_calls_there_are(
    valkey: Any, clocked: Limiter, clock: Clock
) -> None:
    level = Level("tenant", "tenant", 10**6, 10**9)
    for _ in range(CELLS * 12):
        clocked.admit([level], tokens=3)
        clock.forward(SPAN // 5)
    assert valkey.llen("tenant") <= CELLS + 2
    assert valkey.memory_usage("tenant") < 10_000
    totals, *cells = [struct.unpack("<ddd", one) for one in valkey.lrange("tenant", 0, -1)]
    assert totals == (cells[-1][0], sum(cell[1] for cell in cells), sum(cell[2] for cell in cells))
    # Not one too few: whatever came in this last minute is there.
    assert CELLS * 5 - 1 <= totals[1] <= (CELLS + 1) * 5


def test_no_window_has_more_than_the_limit_not_even_around_an_edge(clocked: Limiter, clock: Clock) -> None:
    level, passed = Level("tenant", "tenant", 10), []
    for _ in range(400):
        if clocked.admit([level]).passed:
            passed.append(clock.now)
        clock.forward(777_777)
    assert all(later - earlier >= WINDOW for earlier, later in zip(passed, passed[10:], strict=False))
    assert len(passed) >= 400 * 0.777777 / 60 * 10 - 10


def test_a_clock_that_is_set_back_a_little_loses_nothing(clocked: Limiter, clock: Clock) -> None:
    clocked.admit([TENANT], tokens=50)
    clock.forward(-10 * MICRO)
    for _ in range(4):
        assert clocked.admit([TENANT], tokens=10).passed
    refused = clocked.admit([TENANT]).refusal
    assert refused
    assert refused.retry_after == 70
    clock.forward(70 * MICRO)
    assert used(clocked, TENANT) == {Unit.REQUESTS: 0, Unit.TOKENS: 0}


def test_a_clock_that_is_set_back_by_hours_does_not_shut_anybody_out(clocked: Limiter, clock: Clock) -> None:
    for _ in range(5):
        clocked.admit([TENANT])
    clock.forward(-3600 * MICRO)
    assert clocked.admit([TENANT]).standings[0].remaining == 4


def test_limits_beyond_all_measure_are_limits_still(limiter: Limiter) -> None:
    level = Level("tenant", "tenant", 2**62, 2**62)
    assert limiter.admit([level], tokens=2**62).passed
    assert limiter.look([level]).standings[1].remaining == 2**62 - LARGEST


def test_a_script_that_the_server_has_forgotten_is_sent_again(valkey: Any, limiter: Limiter) -> None:
    limiter.admit([TENANT], call="call")
    valkey.script_flush()
    assert limiter.admit([TENANT]).standings[0].remaining == 3
    limiter.correct([TENANT], "call", 7)
    assert used(limiter, TENANT)[Unit.TOKENS] == 7


def test_every_key_expires(valkey: Any, limiter: Limiter) -> None:
    limiter.admit([USER, TENANT], tokens=1, call="call")
    limiter.correct([TENANT], "call", 2)
    assert {key: 0 < valkey.pttl(key) <= 61_000 for key in valkey.scan_iter()} == {
        b"user": True, b"tenant": True, b"call": True,
    }  # fmt: skip


# --- On the server's own clock -------------------------------------------------------------------------------------
def test_whoever_waits_as_long_as_told_passes(valkey: Any) -> None:
    limiter = Limiter(valkey, window=0.4)
    for _ in range(6):
        while (refusal := limiter.admit([USER]).refusal) is None:
            pass
        assert refusal.retry_after is not None
        assert refusal.retry_after <= 0.4 + 0.4 / CELLS
        time.sleep(refusal.retry_after)
        assert limiter.admit([USER]).passed


def test_a_client_that_retries_hard_passes_as_soon_as_the_window_allows(valkey: Any) -> None:
    """Every refusal is one that had to be: so many calls had passed in the window before it."""
    window, limit = 0.5, 5
    longest = window + window / CELLS + 0.002  # the clocks are not read at one moment
    level, lock = Level("tenant", "tenant", limit), threading.Lock()
    answers: list[tuple[float, float, bool]] = []
    enough, deadline = threading.Event(), time.monotonic() + 60

    def hammer() -> None:
        limiter = Limiter(valkey, window)
        while not enough.is_set():
            begun = time.monotonic()
            passed = limiter.admit([level]).passed
            with lock:
                answers.append((begun, time.monotonic(), passed))
                if sum(one[2] for one in answers) >= 4 * limit or begun > deadline:
                    enough.set()

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    passes = [(begun, ended) for begun, ended, passed in answers if passed]
    assert 4 * limit <= len(passes) < len(answers)
    for begun, ended, passed in answers:
        if not passed:
            in_its_way = [1 for first, last in passes if last > begun - longest and first < ended]
            assert len(in_its_way) >= limit
    begins, ends = sorted(begun for begun, _ in passes), sorted(ended for _, ended in passes)
    assert all(after - before >= window - 0.002 for before, after in zip(begins, ends[limit:], strict=False))


@pytest.mark.parametrize("limit", ["requests", "tokens"])
def test_the_server_refusing_is_an_error_and_not_a_decision(valkey: Any, limit: str) -> None:
    valkey.set("tenant", "not a list")
    with pytest.raises(Unavailable):
        Limiter(valkey).admit([Level("tenant", "tenant", **{limit: 5})])
