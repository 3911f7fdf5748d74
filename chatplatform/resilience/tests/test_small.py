"""Deadlines and pauses."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chatplatform.resilience.deadline import Deadline
from chatplatform.resilience.retry import RetryPolicy

seconds = st.floats(0, 1000, allow_nan=False)


def test_a_deadline_runs_out_once_for_all_steps() -> None:
    soon, passed = Deadline.after(50), Deadline.after(-1)
    assert 49 < soon.left <= 50 and not soon.passed
    assert soon.at_most(3) == 3 and 49 < soon.at_most(70) <= 50
    assert passed.passed and passed.left == passed.at_most(3) == 0


@given(tried=st.integers(1, 20), left=seconds, asked=st.none() | seconds, drawn=st.floats(0, 1))
def test_a_pause_fits_the_time_and_is_never_shorter_than_asked_for(
    tried: int, left: float, asked: float | None, drawn: float
) -> None:
    policy = RetryPolicy(
        tries=10, base=0.5, cap=4, patience=60, draw=lambda low, high: low + drawn * (high - low)
    )
    pause = policy.pause(tried, left=left, retry_after=asked)
    if pause is None:
        assert tried >= 10 or (asked or 0) > 60 or (asked or 0) + 4 >= left
    else:
        assert tried < 10 and (asked or 0) <= pause < left
        assert pause - (asked or 0) <= min(4, 0.5 * 2 ** (tried - 1)) + 1e-9


def test_the_jitter_is_full() -> None:
    policy = RetryPolicy(tries=10, base=1, cap=8)
    pauses = [policy.pause(4, left=100) or 0.0 for _ in range(500)]
    assert min(pauses) < 1 and 7 < max(pauses) <= 8
    assert len(set(pauses)) > 490
