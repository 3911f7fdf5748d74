"""The usage ledger: every call to a provider, what it used, what it cost us and what the tenant pays for it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.db import models

from billing.vocabulary import CallOutcome, EntryKind
from chatplatform.postgres.models import TenantModel

# Those that reached a provider.
CALLED = ~models.Q(kind=EntryKind.CACHE_HIT) & ~models.Q(outcome=CallOutcome.SKIPPED)


def usd() -> Any:
    """US dollars, exact to a thousandth of a millionth."""
    return models.DecimalField(max_digits=18, decimal_places=9, default=Decimal(0))


class LedgerEntry(TenantModel):
    """Call number `sequence` of attempt number `attempt` at a reply. Written once, never changed or deleted.

    Number 0 is the embedding of the question. A call outside of a turn has a `reply` of its own, and no conversation;
    for a document's embeddings it says which (`document`).

    It outlives the conversation, so it names it, the reply and the end user by their ids alone. `error` is the class of
    the failure (`chatplatform.llm.errors.ErrorKind`), `phase` the deadline that passed. `estimated` says that the
    provider did not report its usage, so that tokens and cost are our own count. Prices are US dollars for a million
    tokens, as they were in force. `day` (UTC) is when the reply was accepted: on it the entry is counted everywhere.
    """

    rights = "SELECT, INSERT"

    kind = models.CharField(max_length=10, choices=EntryKind.choices, default=EntryKind.CALL)
    reply = models.UUIDField()
    conversation = models.UUIDField(null=True)
    contact = models.UUIDField(null=True)
    document = models.UUIDField(null=True)
    attempt = models.PositiveSmallIntegerField()
    sequence = models.PositiveSmallIntegerField()
    day = models.DateField()
    provider = models.CharField(max_length=40)
    model = models.CharField(max_length=200)
    outcome = models.CharField(max_length=10, choices=CallOutcome.choices)
    error = models.CharField(max_length=40, blank=True, default="")
    phase = models.CharField(max_length=12, blank=True, default="")
    status = models.PositiveSmallIntegerField(null=True, help_text="HTTP status of a refusal")
    finish_reason = models.CharField(max_length=20, blank=True, default="")
    first_token_ms = models.PositiveIntegerField(null=True)
    total_ms = models.PositiveIntegerField()
    input_tokens = models.PositiveIntegerField(default=0)
    cached_input_tokens = models.PositiveIntegerField(default=0)
    cache_write_input_tokens = models.PositiveIntegerField(default=0)
    output_tokens = models.PositiveIntegerField(default=0)
    estimated = models.BooleanField(default=False)
    price = models.UUIDField(null=True, help_text="The price that was used (ModelPrice)")
    input_price = usd()
    cached_input_price = usd()
    cache_write_price = usd()
    output_price = usd()
    markup_percent = models.DecimalField(max_digits=7, decimal_places=3, default=Decimal(0))
    cost_usd = usd()
    charged_usd = usd()
    saved_usd = usd()
    started_at = models.DateTimeField()

    class Meta:
        ordering = ["reply", "attempt", "sequence"]
        verbose_name_plural = "ledger entries"
        constraints = [
            models.UniqueConstraint(fields=["reply", "attempt", "sequence"], name="ledger_entry_once"),
        ]
        indexes = [models.Index(fields=["day"], name="ledger_by_day")]

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}: {self.outcome}"
