"""Usage per day and model as the figures of a stacked bar chart. Plain arithmetic; the template draws it.

Widths are in percent, heights in pixels: so it fits a telephone and a wide screen with letters of the same size,
without a style attribute, which the content security policy would refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import ROUND_CEILING, Decimal

from billing.presentation import count, usd
from billing.selectors import DayUsage, Usage, by_model

HEIGHT, TOP = 200, 16  # px: of the plot, and above it
MOST_MODELS = 6
BAR = Decimal("0.7")  # of a day's width
LETTER = 7  # px: the widest of a label


def short(number: Decimal) -> str:
    """A round number as it stands beside a scale: 500, 20k, 1.5M."""
    for unit, letter in ((Decimal(10**9), "G"), (Decimal(10**6), "M"), (Decimal(10**3), "k")):
        if number >= unit:
            return f"{(number / unit).normalize():f}{letter}"
    return count(number)


Shown = Callable[[Decimal], str]
# What it is called, how much it is, and how that is written above a bar and beside the scale.
MEASURES: dict[str, tuple[str, Callable[[Usage], Decimal], Shown, Shown]] = {
    "cost": ("Cost", lambda usage: usage.charged_usd, usd, usd),
    "tokens": ("Tokens", lambda usage: Decimal(usage.tokens), count, short),
}


@dataclass(frozen=True, slots=True)
class Piece:
    """One model's part of a bar. `colour` is the number of the model in the legend, from 1."""

    colour: int
    y: str
    height: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A day. `x`, `width` and `middle` are percent."""

    day: date
    x: str
    width: str
    middle: str
    label: str
    said: str
    pieces: Sequence[Piece]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the scale."""

    y: str
    label: str


@dataclass(frozen=True, slots=True)
class Chart:
    title: str
    bars: Sequence[Bar]
    lines: Sequence[Line]
    legend: Sequence[tuple[int, str]]
    height: int = HEIGHT + TOP + 24
    floor: int = HEIGHT + TOP

    @property
    def gutter(self) -> int:
        """Pixels that the labels of the scale need beside the plot."""
        return LETTER * max((len(line.label) for line in self.lines), default=0)

    @property
    def is_empty(self) -> bool:
        return not any(bar.pieces for bar in self.bars)


def chart(rows: Sequence[DayUsage], first: date, last: date, measure: str = "cost") -> Chart:
    """The chart of these days, both included."""
    title, value, shown, beside = MEASURES[measure]
    names = [name for name, _ in by_model(rows)]
    shown_names = names if len(names) <= MOST_MODELS else [*names[: MOST_MODELS - 1], "all others"]
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    values = {day: [Decimal(0)] * len(shown_names) for day in days}
    for row in rows:
        place = min(names.index(f"{row.provider}/{row.model}"), len(shown_names) - 1)
        values[row.day][place] += value(row.usage)
    top, step = scale(max(sum(parts, Decimal(0)) for parts in values.values()))
    width = Decimal(100) / len(days)
    every = max(1, -(-len(days) // 6))
    bars = [
        Bar(
            day=day,
            x=_number(width * place + width * (1 - BAR) / 2),
            width=_number(width * BAR),
            middle=_number(width * place + width / 2),
            label=f"{day.day} {day:%b}" if place % every == every // 2 else "",
            said=f"{day.day} {day:%b}: {shown(sum(values[day], Decimal(0)))}",
            pieces=_pieces(values[day], top),
        )
        for place, day in enumerate(days)
    ]
    lines = [Line(_number(_height(step * n, top)), beside(step * n)) for n in range(1, int(top / step) + 1)]
    return Chart(f"{title} per day and model", bars, lines, list(enumerate(shown_names, 1)))


def scale(highest: Decimal) -> tuple[Decimal, Decimal]:
    """The top of the scale and the step of its lines, such that a line is a round number: 1, 2 or 5 and noughts."""
    if highest <= 0:
        return Decimal(1), Decimal(1)
    rough = highest / 4
    power = Decimal(10) ** rough.adjusted()
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return step * (highest / step).to_integral_value(ROUND_CEILING), step


def _pieces(values: Iterable[Decimal], top: Decimal) -> list[Piece]:
    pieces, below = [], Decimal(0)
    for colour, value in enumerate(values, 1):
        if value > 0:
            # Rounded before they are subtracted, so that pieces meet.
            upper, lower = (round(_height(one, top), 2) for one in (below + value, below))
            pieces.append(Piece(colour, _number(upper), _number(lower - upper)))
            below += value
    return pieces


def _height(value: Decimal, top: Decimal) -> Decimal:
    """Where a value is, in pixels from above."""
    return TOP + HEIGHT * (1 - value / top)


def _number(value: Decimal) -> str:
    return f"{value:.2f}"
