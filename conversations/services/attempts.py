"""The calls that an attempt at a reply makes, as the usage ledger has them: how each ended and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count

from billing.services import budgets, metering
from billing.services.budgets import Account
from billing.services.metering import Rate, Row
from billing.vocabulary import CallOutcome, EntryKind
from chatplatform.llm.types import ModelRef, Usage
from chatplatform.observability import metrics
from conversations.models import Reply

EMBEDDING = (
    0  # the number of the question's embedding: the calls after it have the same numbers with and without it
)


@dataclass(frozen=True, slots=True)
class ProviderCall:
    """One call, as it is handed over with the outcome of its reply. See the model `LedgerEntry` for the rest."""

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
    rate: Rate = metering.FREE_OF_CHARGE
    estimated: bool = False
    kind: EntryKind = EntryKind.CALL

    @property
    def charged(self) -> Decimal:
        """What the tenant pays for it, in US dollars, at its own model's price."""
        return self.rate.charged(self.usage)


def account(reply: Reply) -> Account:
    """On whose budgets an attempt counts."""
    day = reply.created_at.astimezone(UTC).date()
    return Account(reply.pk, reply.attempt, reply.conversation_id, reply.conversation.contact_id, day)


def record(reply: Reply, calls: Sequence[ProviderCall]) -> None:
    """Book the calls of an attempt that settles nothing, because another has taken over or because it is handed back:
    they were made, and may be billed. Nothing is held for it any more. Repeating it changes nothing.
    """
    of = account(reply)
    budgets.settle(of, rows(of, calls))


def rows(of: Account, calls: Sequence[ProviderCall]) -> list[Row]:
    """The calls of one attempt at a reply, in their order, as they are stored."""
    numbers = count(1)
    return [row(of, EMBEDDING if call.kind == EntryKind.EMBEDDING else next(numbers), call) for call in calls]


def row(of: Account, sequence: int, call: ProviderCall) -> Row:
    """One of them, as it is stored."""
    return metering.call(
        call.model,
        call.rate,
        call.usage,
        reply=of.reply,
        conversation=of.conversation,
        contact=of.contact,
        attempt=of.attempt,
        sequence=sequence,
        document=of.document,
        day=of.day,
        kind=call.kind,
        outcome=call.outcome,
        error=call.error,
        phase=call.phase,
        status=call.status,
        finish_reason=call.finish_reason,
        first_token_ms=call.first_token_ms,
        total_ms=call.total_ms,
        estimated=call.estimated,
        started_at=call.started_at,
    )


def used(calls: Sequence[ProviderCall]) -> Usage:
    """All of them together."""
    return sum((call.usage for call in calls), Usage())


def cost(calls: Sequence[ProviderCall]) -> Decimal:
    """What the tenant pays for all of them, in US dollars: each at its own model's price."""
    return sum((call.charged for call in calls), Decimal(0))


def note(call: ProviderCall) -> None:
    """Count a call that is over in the metrics."""
    labels = call.model.provider, metrics.model_label(call.model.name)
    metrics.CALLS.labels(*labels, call.error or str(call.outcome)).inc()
    if call.outcome != CallOutcome.SKIPPED:
        metrics.CALL_SECONDS.labels(*labels).observe(call.total_ms / 1000)
    if call.first_token_ms is not None:
        metrics.FIRST_TOKEN.labels(*labels).observe(call.first_token_ms / 1000)
