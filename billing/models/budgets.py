"""What is spent and what is held, and for whom. The ledger is the truth: its sum is what the balances say is spent."""

from __future__ import annotations

import uuid
from datetime import date

from django.db import models

from billing.models.ledger import usd
from billing.vocabulary import BudgetLevel, BudgetLimit
from chatplatform.postgres.models import TenantModel

NOBODY = uuid.UUID(int=0)  # the subject of a tenant's own balances
EVER = date(1970, 1, 1)  # the period of a balance that never begins anew


class Balance(TenantModel):
    """What one level has spent and holds in a period: its month or day (by its first day, UTC), or `EVER`."""

    level = models.CharField(max_length=20, choices=BudgetLevel.choices)
    subject = models.UUIDField(default=NOBODY)
    period = models.DateField()
    spent_usd = usd()
    held_usd = usd()
    spent_tokens = models.BigIntegerField(default=0)
    held_tokens = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["level", "subject", "period"], name="one_balance_per_period")
        ]

    def __str__(self) -> str:
        return f"{self.level} {self.period}"


class Hold(TenantModel):
    """The worst case of the call that an attempt at a reply is about to make, or makes; counted in the balances.

    Gone when the attempt's call is settled, or, if the attempt died, once no call of it can be under way any more. Of a
    dead attempt's call it knows the model (`provider/name`), the prompt as it was reckoned, and the tokens of answer
    that were kept by the time another attempt began. What is held for embeddings has no room for an answer; outside of
    a turn it has no conversation, and its `reply` is that of its row in the ledger.
    """

    reply = models.UUIDField()
    attempt = models.PositiveSmallIntegerField()
    conversation = models.UUIDField(null=True)
    contact = models.UUIDField(null=True)
    day = models.DateField()
    usd = usd()
    tokens = models.BigIntegerField(default=0)
    taken_at = models.DateTimeField()
    model = models.CharField(max_length=241, null=True)  # noqa: DJ001 (an older release writes none)
    input_tokens = models.PositiveIntegerField(null=True)
    received_tokens = models.PositiveIntegerField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["reply", "attempt"], name="one_hold_per_attempt")]

    def __str__(self) -> str:
        return f"{self.usd} for {self.reply}"


class BudgetNotice(TenantModel):
    """That somebody was told that so much of a limit is spent: once in a period (its first day).

    `of` is the limit in US dollars or tokens: one that is changed is told of anew. An older release writes none.
    """

    limit = models.CharField(max_length=20, choices=BudgetLimit.choices)
    period = models.DateField()
    percent = models.PositiveSmallIntegerField()
    of = models.DecimalField(max_digits=30, decimal_places=9, null=True)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["limit", "period", "percent", "of"],
                name="one_notice_per_threshold_and_limit",
                nulls_distinct=False,
            )
        ]

    def __str__(self) -> str:
        return f"{self.percent} % of {self.limit}"
