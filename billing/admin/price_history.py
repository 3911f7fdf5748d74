"""What a model costs, did and will, for people."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from uuid import UUID

from django.utils import timezone

from billing.models import ModelPrice
from billing.models.prices import STAFF
from billing.pricing import Prices

KINDS = {
    "input_price": "Input",
    "cached_input_price": "Cached input",
    "cache_write_price": "Cache write",
    "output_price": "Output",
}


def dollars(amount: Decimal) -> str:
    """An amount with as many decimals as it has, two at least."""
    whole, _, decimals = f"{amount:,.9f}".partition(".")
    return f"${whole}.{decimals.rstrip('0'):0<2}"


@dataclass(frozen=True, slots=True)
class Held:
    """What a model costs from a moment on. `state` is "in force", "to come", "past", or "void": never to hold."""

    rows: list[ModelPrice]
    state: str

    @property
    def first(self) -> ModelPrice:
        return self.rows[0]

    @property
    def by_staff(self) -> bool:
        return self.first.source == STAFF

    @property
    def steps(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """The lengths of prompts, and the prices of each under their names."""
        return [
            (length(self.rows, row), [(label, dollars(getattr(row, kind))) for kind, label in KINDS.items()])
            for row in self.rows
        ]


def length(rows: list[ModelPrice], row: ModelPrice) -> str:
    """For which prompts a row holds."""
    if row.over_input_tokens:
        return f"Prompts over {row.over_input_tokens:,} tokens"
    following = [other.over_input_tokens for other in rows if other.over_input_tokens]
    return f"Prompts up to {min(following):,} tokens" if following else "All prompts"


def history(provider: str, model: str) -> list[Held]:
    """All prices of a model, the newest first."""
    rows = list(
        ModelPrice.objects.filter(provider=provider, model=model).order_by(
            "-valid_from", "-created_at", "over_input_tokens"
        )
    )
    versions = [
        list(version) for _, version in groupby(rows, key=lambda row: (row.valid_from, row.created_at))
    ]
    return [Held(version, _state(version[0], rows)) for version in versions]


def _state(row: ModelPrice, rows: list[ModelPrice]) -> str:
    now = timezone.now()
    begun = row.valid_from <= now
    if row.id in holding(Prices(rows, max(now, row.valid_from))):
        return "in force" if begun else "to come"
    return "past" if begun else "void"


def holding(found: Prices) -> set[UUID]:
    """The rows that are in force."""
    return {price.id for version in found.versions for _, price in version.steps if price.id}


def newest(held: list[Held]) -> Held:
    """What holds now, or what comes next."""
    return next((version for version in held if version.state == "in force"), held[0])
