"""Rows of the usage ledger: what was called, or answered out of a cache, and what that cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from billing.models import LedgerEntry
from billing.pricing import Price, charged
from billing.vocabulary import CallOutcome, EntryKind
from chatplatform.llm.types import ModelRef, Usage
from chatplatform.postgres.models import uuid7

Row = Mapping[str, Any]
"""A row as the database wants it: each column of `LedgerEntry` with its value."""
DEFAULTS: Row = {
    str(field.column): field.get_default()
    for field in LedgerEntry._meta.concrete_fields
    if not field.primary_key
}


@dataclass(frozen=True, slots=True)
class Rate:
    """What a model costs us, and by how much more the tenant pays."""

    price: Price
    markup_percent: Decimal = Decimal(0)

    def charged(self, usage: Usage) -> Decimal:
        """What the tenant pays for this usage, in US dollars."""
        return charged(self.price.cost(usage), self.markup_percent)

    def worst(self, input_tokens: int, output_tokens: int) -> Decimal:
        """The most that the tenant can have to pay for so many tokens."""
        return charged(self.price.worst(input_tokens, output_tokens), self.markup_percent)


FREE_OF_CHARGE = Rate(Price(None, Decimal(0), Decimal(0), Decimal(0), Decimal(0)))


def call(model: ModelRef, rate: Rate, usage: Usage, **more: Any) -> dict[str, Any]:
    """A call to a provider. `more` are the other columns; what is not given has its default."""
    price = rate.price
    return {
        **DEFAULTS,
        "id": uuid7(),
        "provider": model.provider,
        "model": model.name,
        "input_tokens": usage.input_tokens,
        "cached_input_tokens": usage.cached_input_tokens,
        "cache_write_input_tokens": usage.cache_write_input_tokens,
        "output_tokens": usage.output_tokens,
        "price": price.id,
        "input_price": price.input,
        "cached_input_price": price.cached_input,
        "cache_write_price": price.cache_write,
        "output_price": price.output,
        "markup_percent": rate.markup_percent,
        "cost_usd": price.cost(usage),
        "charged_usd": rate.charged(usage),
        **more,
    }


def cache_hit(model: ModelRef, rate: Rate, usage: Usage, *, at: datetime, **more: Any) -> dict[str, Any]:
    """An answer out of the cache: it costs nothing, and saves what this usage would have cost the tenant."""
    row = call(model, rate, Usage(), started_at=at, total_ms=0, outcome=CallOutcome.COMPLETED, **more)
    return row | {"kind": EntryKind.CACHE_HIT, "saved_usd": rate.charged(usage)}
