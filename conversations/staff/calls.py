"""The calls to models that were made for a reply, as a page shows them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from billing.models import LedgerEntry
from billing.vocabulary import CallOutcome, EntryKind

COLOURS = {"completed": "success", "failed": "danger", "cancelled": "warning", "skipped": "default"}
PHASES = {
    "connect": "no connection",
    "first_token": "no first token",
    "inter_token": "fell silent",
    "total": "out of time",
}


@dataclass(frozen=True, slots=True)
class Call:
    """One call. Empty texts where there is nothing to tell."""

    attempt: int
    model: str
    provider: str
    outcome: str
    colour: str
    why: str
    first_token: str
    total: str
    tokens: str
    estimated: bool
    cost: str


def calls_of(replies: Iterable[UUID]) -> Mapping[UUID, Sequence[Call]]:
    """The calls of each of these replies, in their order. One query."""
    found: dict[UUID, list[Call]] = defaultdict(list)
    calls = LedgerEntry.objects.filter(reply__in=list(replies)).exclude(kind=EntryKind.CACHE_HIT)
    for row in calls.order_by("attempt", "sequence"):
        found[row.reply].append(_call(row))
    return found


def _call(row: LedgerEntry) -> Call:
    counted = row.input_tokens or row.output_tokens
    asked = row.outcome != CallOutcome.SKIPPED
    return Call(
        attempt=row.attempt,
        model=row.model,
        provider=row.provider,
        outcome=row.get_outcome_display(),
        colour=COLOURS[row.outcome],
        why=_why(row),
        first_token="" if row.first_token_ms is None else _span(row.first_token_ms),
        total=_span(row.total_ms) if asked else "",
        tokens=f"{row.input_tokens:,} in, {row.output_tokens:,} out" if counted else "",
        estimated=row.estimated,
        cost=(f"${row.charged_usd.normalize():f}" if row.charged_usd else "$0") if asked else "",
    )


def _why(row: LedgerEntry) -> str:
    """`overloaded (HTTP 503)`, `timeout: no first token`; nothing for a call that went well."""
    text = row.error.replace("_", " ")
    if row.phase:
        text += f": {PHASES.get(row.phase, row.phase)}"
    return f"{text} (HTTP {row.status})" if row.status else text


def _span(milliseconds: int) -> str:
    return f"{milliseconds} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"
