"""Replies that someone still has to generate or announce, of all tenants: the one table that is looked through."""

from __future__ import annotations

from django.db import models

from chatplatform.postgres.models import SharedModel
from tenants.models import Tenant


class WorkState(models.TextChoices):
    PENDING = "pending", "To be generated"
    SETTLED = "settled", "Settled, last event not yet out"


class Work(SharedModel):
    """A reply's work; `id` is the reply's. Written with it, in one transaction, and gone with its last event.

    The lease (owner and expiry) says that a worker is at it; `attempt` numbers the leases. There are only as many rows
    as there is work, and each is changed twice: any index but that of ids costs more than it saves.
    """

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+", db_index=False)
    state = models.CharField(max_length=8, choices=WorkState.choices, default=WorkState.PENDING)
    attempt = models.PositiveSmallIntegerField(default=0)
    handed_back = models.PositiveSmallIntegerField(
        db_default=0, help_text="Attempts that a worker gave back because it was stopped: nobody's fault"
    )
    owner = models.CharField(max_length=80, blank=True, default="")
    lease_expires_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    enqueued_at = models.DateTimeField(auto_now_add=True, help_text="When its job was last sent")
    cancel_requested = models.BooleanField(default=False)

    class Meta:
        verbose_name_plural = "work"

    def __str__(self) -> str:
        return f"{self.state} {self.id}"
