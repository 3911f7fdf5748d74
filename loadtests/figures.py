"""What was measured, and how it is summed up. Times are seconds on the monotonic clock unless a name says `ms`."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

LATE_MS = 100.0  # a load holds while p95 of the added delay stays under this …
TOGETHER = 10.0  # … over at least so many seconds in which all streams are live
CLIENT_LAG_MS = 25.0  # p95 of the clients' own lateness from which on a run says more about them


@dataclass
class Stream:
    """One reply as its reader saw it."""

    name: str
    asked_at: float = 0.0
    arrivals: list[float] = field(default_factory=list)  # of each token
    text: str = ""
    stored: str = ""
    ends: int = 0
    resets: int = 0
    problem: str = ""

    def take(self, text: str, at: float) -> None:
        """Some more text: every token begins with a space but the first."""
        tokens = text.count(" ") + (not self.arrivals)
        self.text += text
        self.arrivals += [at] * tokens

    def forget(self) -> None:
        """A reset: the text begins again."""
        self.resets += 1
        self.text, self.arrivals = "", []

    def fault(self, expected: str, tokens: int, requests: int) -> str:
        """What is wrong with it, or nothing. `requests`: how often the model was asked for it."""
        if self.problem:
            return self.problem
        if self.ends != 1:
            return f"{self.ends} last events"
        if self.text != self.stored:
            return "the text differs from the stored one"
        if self.text != expected:
            return "the text is not what the model said"
        if len(self.arrivals) != tokens:
            return f"{len(self.arrivals)} tokens instead of {tokens}"
        return "" if requests == 1 else f"the model was asked {requests} times"


@dataclass(frozen=True)
class Pace:
    """How the simulator sends: seconds to the first token, tokens a second, tokens in all."""

    ttft: float
    tps: float
    tokens: int

    @property
    def seconds(self) -> float:
        """How long one reply takes."""
        return self.ttft + (self.tokens - 1) / self.tps


def summed_up(
    streams: Sequence[Stream], began: Mapping[str, Sequence[float]], expected: str, pace: Pace
) -> dict[str, Any]:
    """One load. `began`: when the simulator got each request, by name; its schedule counts from there.

    `expected` is what the model says to a question that is `{name}`. `late` is the arrival of a token after the
    simulator's schedule; `window` those that arrived while all streams were live, `overall` all.
    """
    faults = [
        fault
        for stream in streams
        if (
            fault := stream.fault(
                expected.format(name=stream.name), pace.tokens, len(began.get(stream.name, ()))
            )
        )
    ]
    begin, end = window(streams)
    late = [
        pair
        for stream in streams
        if stream.name in began
        for pair in lateness(stream, began[stream.name][-1], pace)
    ]
    inside = [delay for at, delay in late if begin <= at <= end]
    first = [stream.arrivals[0] - stream.asked_at for stream in streams if stream.arrivals]
    asked = min(stream.asked_at for stream in streams)
    last = max((stream.arrivals[-1] for stream in streams if stream.arrivals), default=asked)
    tokens = sum(len(stream.arrivals) for stream in streams)
    return {
        "streams": len(streams),
        "together_s": max(0.0, end - begin),
        "window": [begin, end],
        "window_tokens": len(inside),
        "window_late_ms": spread(inside),
        "overall_late_ms": spread([delay for _, delay in late]),
        "first_token_ms": spread(first),
        "tokens": tokens,
        "tokens_per_second": ratio(tokens, last - asked),
        "resets": sum(stream.resets for stream in streams),
        "faulty": len(faults),
        "faults": sorted(set(faults))[:5],
    }


def window(streams: Sequence[Stream]) -> tuple[float, float]:
    """From when the last stream has its first token to when the first stream has its last one; may be empty."""
    if not all(stream.arrivals for stream in streams):
        return 0.0, 0.0
    return max(stream.arrivals[0] for stream in streams), min(stream.arrivals[-1] for stream in streams)


def lateness(stream: Stream, began: float, pace: Pace) -> list[tuple[float, float]]:
    """When each token arrived, and how long after its time on the simulator's schedule."""
    first = began + pace.ttft
    return [(at, at - first - number / pace.tps) for number, at in enumerate(stream.arrivals)]


def holds(load: Mapping[str, Any]) -> str:
    """Why a load does not hold, or nothing."""
    if load["faulty"]:
        return f"{load['faulty']} faulty"
    if load["together_s"] < TOGETHER:
        return f"all live for {load['together_s']:.0f} s only"
    p95 = load["window_late_ms"]["p95"]
    return "" if p95 < LATE_MS else f"p95 {p95:.0f} ms"


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """p50 and p95 in milliseconds."""
    ranked = sorted(seconds)
    return {"p50": 1000 * percentile(ranked, 50), "p95": 1000 * percentile(ranked, 95)}


def percentile(ranked: Sequence[float], wanted: float) -> float:
    """Of sorted values, by the nearest rank; NaN of nothing."""
    if not ranked:
        return math.nan
    return ranked[max(0, math.ceil(len(ranked) * wanted / 100) - 1)]


def ratio(value: float, of: float) -> float:
    """NaN where there is nothing to compare with."""
    return value / of if of > 0 else math.nan


def between(samples: Sequence[tuple[float, float]], begin: float, end: float) -> float:
    """How much a growing count grew from `begin` to `end`, out of samples (time, count), straight in between."""
    return at_time(samples, end) - at_time(samples, begin)


def at_time(samples: Sequence[tuple[float, float]], at: float) -> float:
    """The count at this time; outside of the samples the nearest one's."""
    after = bisect_left(samples, at, key=lambda sample: sample[0])
    if after == 0:
        return samples[0][1]
    if after == len(samples):
        return samples[-1][1]
    (earlier, low), (later, high) = samples[after - 1], samples[after]
    return low + (high - low) * (at - earlier) / (later - earlier)
