"""The audit log: what people did, in one chain for each tenant and one for the platform.

An entry is never changed and never deleted: the application's roles may not, and a trigger stops all others. Nothing
refers to it and it refers to nothing by foreign key, so that it outlives what it tells of.
"""

from __future__ import annotations

from uuid import UUID

from django.db import models
from django.db.models import OuterRef, Subquery
from django.db.models.functions import Cast, Coalesce

from chatplatform.postgres.models import SharedModel
from tenants.models.staff import User
from tenants.models.tenant import Tenant
from tenants.vocabulary import AuditAction

PLATFORM = UUID(int=0)  # the platform's own chain, where a tenant's has the tenant's id


class AuditEntries(models.QuerySet["AuditEntry"]):
    def named(self) -> AuditEntries:
        """With `tenant_slug` and `actor_name` as they are now, for people to read: the log itself holds ids."""
        slug = Tenant.objects.filter(id=OuterRef("chain")).values("slug")
        people = User.objects.alias(text=Cast("id", models.TextField())).filter(text=OuterRef("actor_id"))
        return self.annotate(
            tenant_slug=Subquery(slug),
            actor_name=Coalesce(Subquery(people.values("username")), "actor_id"),
        )


class AuditEntry(SharedModel):
    """One thing that somebody did. Personal data only by reference: ids, and digests of what was typed."""

    rights = "SELECT, INSERT"
    objects = AuditEntries.as_manager()

    chain = models.UUIDField(help_text="The tenant, or zeros for the platform")
    sequence = models.BigIntegerField(help_text="From 1 on in each chain, without gaps")
    # Both closed, in tenants.vocabulary; but no `choices`, or each new word would be a migration.
    action = models.CharField(max_length=40)
    actor_kind = models.CharField(max_length=20)
    actor_id = models.CharField(max_length=200, blank=True)
    object_kind = models.CharField(max_length=100)
    object_id = models.CharField(max_length=200, blank=True)
    data = models.JSONField(default=dict)
    request = models.CharField(max_length=64, blank=True, help_text="The request's id, as in the logs")
    address = models.CharField(
        max_length=16, blank=True, help_text="Keyed hash of the address that it came from"
    )
    at = models.DateTimeField(db_index=True)
    key = models.CharField(max_length=8, help_text="Which key the hash was made with")
    previous = models.CharField(max_length=64, blank=True, help_text="The hash of the entry before it")
    hash = models.CharField(max_length=64)

    class Meta:
        ordering = ["-at", "-sequence"]
        verbose_name_plural = "audit entries"
        constraints = [models.UniqueConstraint(fields=["chain", "sequence"], name="audit_sequence_per_chain")]
        indexes = [
            models.Index(fields=["action", "at"], name="audit_action_at"),
            models.Index(fields=["actor_id", "at"], name="audit_actor_at"),
            models.Index(fields=["object_id", "at"], name="audit_object_at"),
        ]

    def __str__(self) -> str:
        return f"{self.action} ({self.sequence})"

    @property
    def in_words(self) -> str:
        """The action as people read it."""
        return AuditAction(self.action).label if self.action in AuditAction.values else self.action


class AuditHead(SharedModel):
    """Where a chain ends now, signed; and how much of it is anchored outside the database."""

    rights = "SELECT, INSERT, UPDATE"

    chain = models.UUIDField(unique=True)
    sequence = models.BigIntegerField(default=0)
    hash = models.CharField(max_length=64, blank=True)
    key = models.CharField(max_length=8, blank=True)
    signature = models.CharField(max_length=64, blank=True)
    anchored = models.BigIntegerField(default=0, help_text="The last sequence number that was anchored")
    updated_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"{self.chain} at {self.sequence}"
