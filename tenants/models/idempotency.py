"""Answers kept for repeated requests (CONTRACT §5): in the tenant's schema, or the platform's for its own calls."""

from __future__ import annotations

from django.db import models

from chatplatform.postgres.models import HomeModel, SharedModel, TenantModel


class IdempotencyRecord(HomeModel):
    """One Idempotency-Key of one credential on one path. No status yet: the first request is still running."""

    credential = models.CharField(max_length=80)
    path = models.CharField(max_length=300)
    key = models.CharField(max_length=200)
    body_hash = models.BinaryField(max_length=32)
    status = models.PositiveSmallIntegerField(null=True)
    answer = models.JSONField(null=True)
    reply_id = models.UUIDField(null=True)
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        abstract = True
        constraints = [
            models.UniqueConstraint(fields=["credential", "path", "key"], name="%(class)s_once"),
        ]

    def __str__(self) -> str:
        return self.key


class TenantIdempotencyRecord(TenantModel, IdempotencyRecord):
    class Meta(IdempotencyRecord.Meta):
        pass


class PlatformIdempotencyRecord(SharedModel, IdempotencyRecord):
    class Meta(IdempotencyRecord.Meta):
        pass
