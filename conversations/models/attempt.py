"""Every call to a provider that was made for a reply: what was asked, how it ended, what it cost."""

from __future__ import annotations

from decimal import Decimal

from django.db import models

from chatplatform.postgres.models import TenantModel
from conversations.models.reply import Reply
from conversations.vocabulary import CallOutcome


class ProviderAttempt(TenantModel):
    """Call number `sequence` of attempt number `attempt` at a reply. Written once, never changed.

    `error` is the class of the failure (`chatplatform.llm.errors.ErrorKind`), `phase` the deadline that passed.
    `estimated` says that the provider did not report its usage, so that tokens and cost are our own count.
    """

    reply = models.ForeignKey(Reply, on_delete=models.CASCADE, related_name="calls", db_index=False)
    attempt = models.PositiveSmallIntegerField()
    sequence = models.PositiveSmallIntegerField()
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
    cost_usd = models.DecimalField(max_digits=18, decimal_places=9, default=Decimal(0))
    estimated = models.BooleanField(default=False)
    started_at = models.DateTimeField()

    class Meta:
        ordering = ["reply", "attempt", "sequence"]
        constraints = [
            models.UniqueConstraint(fields=["reply", "attempt", "sequence"], name="provider_attempt_once")
        ]

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}: {self.outcome}"
