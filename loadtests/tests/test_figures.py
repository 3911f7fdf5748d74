"""The arithmetic of the bench."""

from __future__ import annotations

import math
from typing import Any

import pytest

from loadtests.figures import (
    Pace,
    Stream,
    between,
    holds,
    lateness,
    percentile,
    ratio,
    spread,
    summed_up,
    window,
)

PACE = Pace(ttft=0.5, tps=10, tokens=4)
EXPECTED = "You asked: {name} yes"


def stream(name: str, asked_at: float, late: float = 0.0) -> Stream:
    """One that went well: asked at this time, each token so late."""
    made = Stream(name, asked_at=asked_at, ends=1)
    for number, text in enumerate(("You", " asked:", f" {name}", " yes")):
        made.take(text, asked_at + PACE.ttft + number / PACE.tps + late)
    made.stored = made.text
    return made


@pytest.mark.parametrize(("wanted", "value"), [(0, 1), (50, 50), (95, 95), (99.5, 100), (100, 100)])
def test_a_percentile_is_the_nearest_rank(wanted: float, value: float) -> None:
    assert percentile(range(1, 101), wanted) == value


def test_a_percentile_of_few_values_is_one_of_them() -> None:
    assert [percentile([7.0], wanted) for wanted in (0, 50, 95)] == [7, 7, 7]
    assert percentile([1.0, 2.0], 50) == 1
    assert percentile([1.0, 2.0], 51) == 2
    assert math.isnan(percentile([], 50))


def test_a_spread_is_in_milliseconds_and_sorts() -> None:
    assert spread([0.3, 0.1, 0.2]) == {"p50": 200, "p95": 300}


def test_a_ratio_to_nothing_is_no_number() -> None:
    assert ratio(3, 2) == 1.5
    assert math.isnan(ratio(3, 0))


def test_several_tokens_of_one_delta_are_counted_each() -> None:
    read = Stream("x")
    read.take("You asked:", 1.0)
    read.take(" one two", 2.0)
    assert read.arrivals == [1.0, 1.0, 2.0, 2.0]


def test_after_a_reset_the_count_begins_again() -> None:
    read = Stream("x")
    read.take("You asked:", 1.0)
    read.forget()
    read.take("You", 2.0)
    assert (read.text, read.arrivals, read.resets) == ("You", [2.0], 1)


def test_the_window_is_where_all_are_live() -> None:
    early, late = stream("a", 0.0), stream("b", 0.2)
    assert list(window([early, late])) == pytest.approx([0.7, 0.8])


def test_the_window_is_empty_if_one_never_began() -> None:
    assert window([stream("a", 0.0), Stream("b")]) == (0.0, 0.0)


def test_lateness_counts_from_the_simulators_schedule_not_from_the_token_before() -> None:
    late = lateness(stream("a", 3.0, late=0.04), 3.0, PACE)
    assert [delay for _, delay in late] == pytest.approx([0.04] * 4)


def test_a_load_counts_delays_in_the_window_and_over_everything() -> None:
    streams = [stream("a", 0.0, late=0.01), stream("b", 0.2, late=0.03)]
    found = summed_up(streams, {"a": [0.0], "b": [0.2]}, EXPECTED, PACE)
    # Together from 0.73 to 0.81: the last token of "a", the first of "b".
    assert found["together_s"] == pytest.approx(0.08)
    assert found["window_tokens"] == 2
    assert found["window_late_ms"] == {"p50": pytest.approx(10), "p95": pytest.approx(30)}
    assert (found["tokens"], found["faulty"]) == (8, 0)
    assert found["tokens_per_second"] == pytest.approx(8 / 1.03)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"problem": "connection lost"}, "connection lost"),
        ({"ends": 2}, "2 last events"),
        ({"ends": 0}, "0 last events"),
        ({"text": "You asked: a"}, "the text differs from the stored one"),
        ({"text": "You a asked: yes", "stored": "You a asked: yes"}, "the text is not what the model said"),
        ({"arrivals": [1.0] * 5}, "5 tokens instead of 4"),
    ],
)
def test_a_fault_is_found(change: dict[str, Any], fault: str) -> None:
    broken = stream("a", 0.0)
    for name, value in change.items():
        setattr(broken, name, value)
    found = summed_up([broken, stream("b", 0.0)], {"a": [0.0], "b": [0.0]}, EXPECTED, PACE)
    assert (found["faulty"], found["faults"]) == (1, [fault])


def test_a_reply_that_the_model_was_asked_twice_for_is_a_fault() -> None:
    found = summed_up([stream("a", 0.0)], {"a": [0.0, 0.1]}, EXPECTED, PACE)
    assert found["faults"] == ["the model was asked 2 times"]


@pytest.mark.parametrize(
    ("change", "why_not"),
    [
        ({}, ""),
        ({"faulty": 3}, "3 faulty"),
        ({"together_s": 4.2}, "all live for 4 s only"),
        ({"window_late_ms": {"p95": 100.0}}, "p95 100 ms"),
        ({"window_late_ms": {"p95": math.nan}}, "p95 nan ms"),
    ],
)
def test_a_load_holds_only_if_all_is_well(change: dict[str, Any], why_not: str) -> None:
    load = {"faulty": 0, "together_s": 12.0, "window_late_ms": {"p95": 99.9}}
    assert holds({**load, **change}) == why_not


def test_a_growing_count_is_read_straight_between_its_samples() -> None:
    samples = [(0.0, 10.0), (1.0, 20.0), (2.0, 20.0)]
    assert between(samples, 0.5, 1.5) == 5
    assert between(samples, -1.0, 9.0) == 10
