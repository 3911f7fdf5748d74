"""What a call costs, in exact US dollars, by the prices in the table (`ModelPrice`). Unknown is refused, not guessed.

Each process keeps the prices in force. After 4 seconds, and at once when the control bus says so, a thread that needs
them looks whether the table has changed, and only then loads them again. The event loop never waits for the database:
it gets what is kept from `price`, and code there that must be exact begins with `await pricing.fresh()`
and goes on with that `Prices`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_EVEN, ROUND_UP, Decimal
from itertools import groupby
from uuid import UUID

from django.utils import timezone

from billing.models import ModelPrice
from billing.models.prices import STAFF
from chatplatform import jobs, tenancy
from chatplatform.kept import Kept
from chatplatform.llm.types import ModelRef, Usage
from chatplatform.postgres.prepared import Statement

FRESH_SECONDS = 4.0  # below the promise of 5 s, which includes the request that is under way
UNIT = Decimal("0.000000001")  # the smallest amount that is written down
MILLION = Decimal(1_000_000)
WILD = re.compile(r"[*#]")
# Another value after each change of the rows that are in force.
MARK = Statement("""
    SELECT md5(string_agg(concat_ws(' ', xmin, ctid), ',' ORDER BY ctid))
    FROM billing_modelprice WHERE valid_from <= %(now)s
""")


class Unpriced(LookupError):
    """There is no price for this model."""


@dataclass(frozen=True, slots=True)
class Price:
    """A price in force, in US dollars for a million tokens. `id` is its row in `ModelPrice`, if it has one."""

    id: UUID | None
    input: Decimal
    cached_input: Decimal
    cache_write: Decimal
    output: Decimal

    def cost(self, usage: Usage) -> Decimal:
        """What the provider charges for this usage, to a thousandth of a millionth of a dollar."""
        plain = usage.input_tokens - usage.cached_input_tokens - usage.cache_write_input_tokens
        millionths = (
            self.input * plain
            + self.cached_input * usage.cached_input_tokens
            + self.cache_write * usage.cache_write_input_tokens
            + self.output * usage.output_tokens
        )
        return exact(millionths / MILLION)

    def worst(self, input_tokens: int, output_tokens: int) -> Decimal:
        """The most that so many tokens may cost, whichever part of the input is cached. Rounded up."""
        dearest = max(self.input, self.cached_input, self.cache_write)
        return exact((dearest * input_tokens + self.output * output_tokens) / MILLION, ROUND_UP)


def exact(dollars: Decimal, rounding: str = ROUND_HALF_EVEN) -> Decimal:
    """An amount as it is written down. The one place that rounds a cost."""
    return dollars.quantize(UNIT, rounding)


def charged(cost: Decimal, markup_percent: Decimal) -> Decimal:
    """What a tenant pays for what cost us `cost`."""
    return exact(cost * (100 + markup_percent) / 100)


# --- The prices in force -------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Version:
    """All rows of a model that began to hold together: a price, and its steps for longer prompts, longest first."""

    provider: str
    model: str
    names: tuple[str, ...]
    steps: tuple[tuple[int, Price], ...]

    def price(self, input_tokens: int) -> Price:
        """The price of a prompt of this length."""
        return next((price for over, price in self.steps if input_tokens > over), self.steps[-1][1])


class Prices:
    """The prices that are in force at one moment. Never changes."""

    def __init__(self, rows: Iterable[ModelPrice], at: datetime) -> None:
        self.versions = in_force(rows, at)
        self._names: dict[tuple[str, str], Version] = {}
        self._patterns: dict[str, list[tuple[str, re.Pattern[str], Version]]] = {}
        for version in self.versions:
            for name in version.names:
                self._enter(name, version)
        # The longest first: what says more about a name knows it better.
        for patterns in self._patterns.values():
            patterns.sort(key=lambda entry: len(entry[0].replace("*", "")), reverse=True)

    def price(self, model: ModelRef, input_tokens: int = 0) -> Price:
        """The price of a call with so long a prompt. Raises Unpriced."""
        return self.version(model).price(input_tokens)

    def version(self, model: ModelRef) -> Version:
        """The price with its steps. Raises Unpriced."""
        name = model.name.lower()
        if (version := self._names.get((model.provider, name))) is not None:
            return version
        for _, pattern, version in self._patterns.get(model.provider, ()):
            if pattern.fullmatch(name):
                return version
        raise Unpriced(str(model))

    def _enter(self, name: str, version: Version) -> None:
        if WILD.search(name):
            pattern = re.escape(name).replace(r"\*", ".*").replace(r"\#", "[0-9]")
            self._patterns.setdefault(version.provider, []).append((name, re.compile(pattern), version))
        elif name == version.model:
            self._names[version.provider, name] = version
        else:  # a model of this very name has more right to it
            self._names.setdefault((version.provider, name), version)


def in_force(rows: Iterable[ModelPrice], at: datetime) -> list[Version]:
    """The version of each model that holds at a moment. Those of staff come first, then the newest."""
    begun = sorted((row for row in rows if row.valid_from <= at), key=_model_then_age)
    chosen = [
        _newest(list(of_model)) for _, of_model in groupby(begun, key=lambda row: (row.provider, row.model))
    ]
    chosen.sort(key=lambda version: (version[0].source == STAFF, version[0].created_at), reverse=True)
    return [_version(version) for version in chosen]


def by_staff(rows: Iterable[ModelPrice]) -> list[ModelPrice]:
    """Of one model's rows, staff's own prices that were written since staff last went back to the list."""
    known = list(rows)
    gone_back = [row.created_at for row in known if row.author and row.source != STAFF]
    return [row for row in known if row.source == STAFF and all(row.created_at > back for back in gone_back)]


def _newest(rows: list[ModelPrice]) -> list[ModelPrice]:
    """Of one model's rows, oldest first, those that hold: staff's newest price if there is one, else the list's."""
    last = (by_staff(rows) or [row for row in rows if row.source != STAFF])[-1]
    return [row for row in rows if _start(row) == _start(last)]


def _model_then_age(row: ModelPrice) -> tuple[object, ...]:
    return row.provider, row.model, *_start(row)


def _start(row: ModelPrice) -> tuple[datetime, datetime]:
    return row.valid_from, row.created_at


def _version(rows: list[ModelPrice]) -> Version:
    longest_first = sorted(rows, key=lambda row: row.over_input_tokens, reverse=True)
    first = rows[0]
    names = tuple(name.lower() for name in first.names or [first.model])
    return Version(
        first.provider,
        first.model,
        names,
        tuple((row.over_input_tokens, _price(row)) for row in longest_first),
    )


def _price(row: ModelPrice) -> Price:
    return Price(row.id, row.input_price, row.cached_input_price, row.cache_write_price, row.output_price)


# --- What this process keeps ---------------------------------------------------------------------------------------
def _mark(_: None) -> object:
    return MARK.run({"now": timezone.now()})


def _load(_: None) -> Prices:
    return Prices(ModelPrice.objects.order_by(), timezone.now())


_kept: Kept[None, Prices] = Kept(FRESH_SECONDS, 1, _mark, _load)


def cached() -> Prices | None:
    """The prices if they are kept and fresh; touches no database, so the event loop may ask."""
    return _kept.get(None)


def load() -> Prices:
    """The prices in force, as the table has them now. For a thread."""
    with tenancy.in_platform():
        return _kept.read(None)


def forget() -> None:
    """Look into the table when the prices are next asked for."""
    _kept.make_old(None)


def current() -> Prices:
    """The prices, not older than 5 seconds; in the event loop, those that a thread of this process last loaded."""
    return cached() or (_kept.last(None) if _in_event_loop() else None) or load()


async def fresh() -> Prices:
    """The prices, not older than 5 seconds, in an event loop too."""
    kept = cached()
    return await jobs.in_thread(load) if kept is None else kept


def price(model: ModelRef, input_tokens: int = 0) -> Price:
    """The price in force for a call with a prompt of `input_tokens`. Raises Unpriced."""
    return current().price(model, input_tokens)


def cost(model: ModelRef, usage: Usage) -> Decimal:
    """What one call costs in US dollars. Raises Unpriced."""
    return price(model, usage.input_tokens).cost(usage)


def is_priced(model: ModelRef) -> bool:
    """Whether calls to this model can be charged."""
    try:
        price(model)
    except Unpriced:
        return False
    return True


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
