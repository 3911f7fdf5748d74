"""What people sign in with beside their passwords: second factors, and the accounts that they have elsewhere."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from chatplatform.postgres.models import SharedModel
from tenants.fields import SealedTextField
from tenants.models.membership import Membership
from tenants.models.staff import User
from tenants.models.tenant import Tenant
from tenants.vocabulary import FactorKind, MemberRole


class SecondFactor(SharedModel):
    """One thing that an account, a member's or staff's, shows beside its password."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="second_factors")
    kind = models.CharField(max_length=10, choices=FactorKind.choices)
    name = models.CharField(max_length=60, blank=True, default="")
    # An app's secret in base32; a passkey's id and public key in base64; a hash of a recovery code.
    secret = SealedTextField()
    host = models.CharField(max_length=253, blank=True, default="")  # where a passkey was made, and is good
    # It only grows, so that nothing is taken twice: the last 30 s that an app's code was for, a passkey's own count.
    counter = models.BigIntegerField(default=0)
    created_at = models.DateTimeField(default=timezone.now)
    used_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["created_at"]

    def __str__(self) -> str:
        return self.name or FactorKind(self.kind).label


class SignInProvider(SharedModel):
    """An OpenID provider that a tenant trusts to say who its members are."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="sign_in_providers")
    name = models.CharField(max_length=60)
    issuer = models.CharField(max_length=300)
    client_id = models.CharField(max_length=300)
    client_secret = SealedTextField(default="")
    # Who may join without an invitation: `ada@example.com`, `@example.com`; and as what.
    admitted = models.JSONField(default=list, blank=True)
    role = models.CharField(max_length=20, choices=MemberRole.choices, default=MemberRole.VIEWER)
    asks_second_factor = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "name"], name="sign_in_provider_name_once"),
            # Two clients at one issuer may be told different subjects for one person, or one for two.
            models.UniqueConstraint(fields=["tenant", "issuer"], name="sign_in_provider_issuer_once"),
        ]

    def __str__(self) -> str:
        return self.name


class MemberIdentity(SharedModel):
    """An account elsewhere that stands for a member: by issuer and subject, which never change, not by an address."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+")
    membership = models.ForeignKey(Membership, on_delete=models.CASCADE, related_name="identities")
    provider = models.ForeignKey(SignInProvider, on_delete=models.CASCADE, related_name="identities")
    issuer = models.CharField(max_length=300)
    subject = models.CharField(max_length=255)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["created_at"]
        verbose_name_plural = "member identities"
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "issuer", "subject"], name="member_identity_once_per_tenant"
            ),
            models.UniqueConstraint(
                fields=["membership", "provider"], name="member_identity_once_per_provider"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.membership} at {self.provider}"
