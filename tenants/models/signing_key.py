"""The keys that the platform signs its tokens with."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from chatplatform.postgres.models import SharedModel
from tenants.fields import SealedTextField
from tenants.vocabulary import SigningKeyState


class SigningKey(SharedModel):
    """One RSA key pair. At most one is next and one current; what is retired stays as a record, without its secret."""

    kid = models.CharField(max_length=32, unique=True, editable=False)
    state = models.CharField(max_length=10, choices=SigningKeyState.choices, default=SigningKeyState.NEXT)
    public_jwk = models.JSONField(editable=False)
    # PEM. Emptied as soon as the key signs no more: to check tokens the public half is enough.
    private_pem = SealedTextField(default="")
    published_at = models.DateTimeField(auto_now_add=True)
    signs_from = models.DateTimeField(null=True, editable=False)
    replaced_at = models.DateTimeField(null=True, editable=False)
    retired_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ["-published_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["state"],
                condition=Q(state__in=["next", "current"]),
                name="signing_key_one_next_one_current",
            )
        ]

    def __str__(self) -> str:
        return self.kid
