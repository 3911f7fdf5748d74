"""What was measured, and how it is summed up."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Stream:
    """One reply as its reader saw it. Times are seconds on the monotonic clock."""

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
        tokens = text.count(" ") + (not self.text)
        self.text += text
        self.arrivals += [at] * tokens

    def fault(self, tokens: int) -> str:
        """What is wrong with it, or nothing."""
        if self.problem:
            return self.problem
        if self.ends != 1:
            return f"{self.ends} last events"
        if self.text != self.stored:
            return "the text differs from the stored one"
        if len(self.arrivals) != tokens:
            return f"{len(self.arrivals)} tokens instead of {tokens}"
        return ""


@dataclass(frozen=True)
class Row:
    """One load, summed up. Milliseconds, but for `tokens_per_second`."""

    way: str
    streams: int
    first_p50: float
    first_p95: float
    tokens_per_second: float
    late_p50: float
    late_p95: float
    faulty: int
    resets: int
    faults: list[str]


def summed_up(
    way: str, streams: list[Stream], tokens: int, began: dict[str, float], ttft: float, tps: float
) -> Row:
    """`began` says when the simulator got the request of each stream: that is what its schedule counts from."""
    first = [1000 * (s.arrivals[0] - s.asked_at) for s in streams if s.arrivals]
    late = [
        1000 * (arrival - began[stream.name] - ttft - number / tps)
        for stream in streams
        if stream.name in began
        for number, arrival in enumerate(stream.arrivals)
    ]
    faults = [fault for stream in streams if (fault := stream.fault(tokens))]
    start = min(stream.asked_at for stream in streams)
    end = max((stream.arrivals[-1] for stream in streams if stream.arrivals), default=start + 1)
    total = sum(len(stream.arrivals) for stream in streams)
    return Row(
        way,
        len(streams),
        percentile(first, 50),
        percentile(first, 95),
        total / (end - start),
        percentile(late, 50),
        percentile(late, 95),
        len(faults),
        sum(stream.resets for stream in streams),
        sorted(set(faults))[:5],
    )


def percentile(values: list[float], wanted: float) -> float:
    """By the nearest rank; NaN of nothing."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(len(ranked) * wanted / 100))] if ranked else float("nan")


def table(heads: list[str], rows: list[list[str]]) -> str:
    """A Markdown table that is readable as it is: the first column left, the others right."""
    cells = [heads, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]

    def line(row: list[str]) -> str:
        rest = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        return "| " + " | ".join([row[0].ljust(widths[0]), *rest]) + " |"

    rule = "|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|"
    rule = rule.replace("-:", "--", 1) if widths else rule
    return "\n".join([line(heads), rule, *map(line, rows)])
