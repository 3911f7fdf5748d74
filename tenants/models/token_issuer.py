"""Who else may sign tokens for a tenant's end users: the tenant's own backends."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from chatplatform.postgres.models import SharedModel
from tenants.models.tenant import Tenant


class TokenIssuer(SharedModel):
    """A backend of a tenant's, by the `iss` of its tokens: with public keys, or an address where they are."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="token_issuers")
    name = models.CharField(max_length=100)
    issuer = models.CharField(max_length=300)
    jwks_url = models.CharField(max_length=500, blank=True, default="")
    public_keys = models.JSONField(default=list, blank=True)  # JWKs
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["tenant", "name"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "name"], name="token_issuer_name_once"),
            # Keys or an address, never both: it is always clear which of them counts.
            models.CheckConstraint(
                condition=Q(jwks_url="") ^ Q(public_keys=[]), name="token_issuer_has_keys_or_url"
            ),
        ]

    def __str__(self) -> str:
        return self.name
