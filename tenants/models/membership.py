"""A tenant's own people: who is a member, the sessions they are signed in by, and how often somebody tried to."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from chatplatform.postgres.models import SharedModel
from tenants.models.staff import User
from tenants.models.tenant import Tenant
from tenants.vocabulary import MemberRole, MemberState


class Membership(SharedModel):
    """A person who may sign in to a tenant's console.

    The account belongs to this membership alone: who is a member of two tenants has two, each with its own password, so
    that what happens at one tenant's host (its own domain may be in anybody's hands one day) is nothing to the other.
    """

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="memberships")
    user = models.OneToOneField(User, on_delete=models.CASCADE, related_name="membership")
    email = models.EmailField(help_text="In lower case; what the person signs in with")
    role = models.CharField(max_length=20, choices=MemberRole.choices)
    invited_by = models.CharField(max_length=254, blank=True, default="")
    invited_at = models.DateTimeField(default=timezone.now)
    joined_at = models.DateTimeField(null=True)
    disabled_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["email"]
        constraints = [models.UniqueConstraint(fields=["tenant", "email"], name="member_once_per_tenant")]

    def __str__(self) -> str:
        return self.email

    @property
    def state(self) -> MemberState:
        """Where the membership stands."""
        if self.disabled_at is not None:
            return MemberState.DISABLED
        return MemberState.INVITED if self.joined_at is None else MemberState.JOINED


class MemberSession(SharedModel):
    """A browser in which a member is signed in. Only a hash of the cookie is kept."""

    membership = models.ForeignKey(Membership, on_delete=models.CASCADE, related_name="sessions")
    token_hash = models.BinaryField(max_length=32, unique=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now)
    seen_at = models.DateTimeField(default=timezone.now)
    # When a second factor was shown in it. Whoever has one, or needs one, is not signed in before that.
    proved_at = models.DateTimeField(null=True)
    ceremony = models.JSONField(null=True)  # what the passkey that is asked for has to sign, until it answers
    # By whom the member was vouched for; None: by the password. What a provider began ends with it.
    provider = models.ForeignKey("tenants.SignInProvider", on_delete=models.CASCADE, null=True)
    address = models.CharField(max_length=45, blank=True, default="")
    agent = models.CharField(max_length=300, blank=True, default="")

    class Meta:
        ordering = ["-seen_at"]

    def __str__(self) -> str:
        return f"{self.membership} since {self.created_at:%Y-%m-%d}"


class SignInTries(SharedModel):
    """How often somebody tried to sign in to an account, or from an address; `subject` is a hash of which."""

    subject = models.CharField(max_length=64, unique=True)
    tries = models.PositiveIntegerField(default=1)
    began_at = models.DateTimeField(db_index=True)

    class Meta:
        verbose_name_plural = "sign-in tries"

    def __str__(self) -> str:
        return self.subject[:8]
