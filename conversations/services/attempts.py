"""The record of calls to providers: how each ended and what it cost, whether or not its reply did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from chatplatform.llm.types import ModelRef, Usage
from conversations.models import ProviderAttempt
from conversations.vocabulary import CallOutcome


@dataclass(frozen=True, slots=True)
class ProviderCall:
    """One call, as it is handed over with the outcome of its reply. `cost` is in US dollars, at its own model's price.

    See the model `ProviderAttempt` for the rest.
    """

    model: ModelRef
    outcome: CallOutcome
    started_at: datetime
    total_ms: int
    first_token_ms: int | None = None
    error: str = ""
    phase: str = ""
    status: int | None = None
    finish_reason: str = ""
    usage: Usage = Usage()
    cost: Decimal = Decimal(0)
    estimated: bool = False


def record(reply_id: UUID, attempt: int, calls: Sequence[ProviderCall]) -> None:
    """Write the calls of an attempt that settles nothing, because another has taken over or because it is handed back:
    they were made, and may be billed. Repeating it changes nothing.
    """
    if calls:
        ProviderAttempt.objects.bulk_create(rows(reply_id, attempt, calls), ignore_conflicts=True)


def rows(reply_id: UUID, attempt: int, calls: Sequence[ProviderCall]) -> list[ProviderAttempt]:
    """The calls of one attempt at a reply, in their order, as they are stored."""
    return [_row(reply_id, attempt, number, call) for number, call in enumerate(calls, start=1)]


def _row(reply_id: UUID, attempt: int, sequence: int, call: ProviderCall) -> ProviderAttempt:
    return ProviderAttempt(
        reply_id=reply_id,
        attempt=attempt,
        sequence=sequence,
        provider=call.model.provider,
        model=call.model.name,
        outcome=call.outcome,
        error=call.error,
        phase=call.phase,
        status=call.status,
        finish_reason=call.finish_reason,
        first_token_ms=call.first_token_ms,
        total_ms=call.total_ms,
        input_tokens=call.usage.input_tokens,
        cached_input_tokens=call.usage.cached_input_tokens,
        cache_write_input_tokens=call.usage.cache_write_input_tokens,
        output_tokens=call.usage.output_tokens,
        cost_usd=call.cost,
        estimated=call.estimated,
        started_at=call.started_at,
    )
