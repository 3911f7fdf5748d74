"""Keys that texts are sealed with, each wrapped by the one above: master key → tenant's key → contact's key."""

from __future__ import annotations

from django.db import models

from chatplatform.postgres.models import SharedModel
from chatplatform.tenancy import Home
from tenants.models.contact import Contact


class TenantKey(SharedModel):
    """Wraps the data keys of a tenant; the platform's own (`audit.PLATFORM` for the tenant) seals the platform's texts.

    `wrapped` is under the master key `master`. The key before stays for a while: a process may not have heard of the
    new one.
    """

    tenant = models.UUIDField(editable=False)
    master = models.CharField(max_length=200, editable=False)
    wrapped = models.BinaryField()
    current = models.BooleanField(default=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    replaced_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["tenant"], condition=models.Q(current=True), name="one_current_key_per_tenant"
            )
        ]

    def __str__(self) -> str:
        return str(self.id)


class DeletedKeys(SharedModel):
    """Data keys of this tenant were deleted, and are still to go from PostgreSQL's files."""

    tenant = models.UUIDField(editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return str(self.tenant)


class DataKey(models.Model):
    """Seals the texts of one contact, and has the contact's id; or, with the tenant's id, all that is of nobody.

    It goes with the contact: what it sealed, wherever a copy is, cannot be read then.
    """

    home = Home.TENANT

    id = models.UUIDField(primary_key=True, editable=False)
    contact = models.OneToOneField(Contact, on_delete=models.CASCADE, null=True, related_name="+")
    tenant_key = models.UUIDField(db_index=True)
    wrapped = models.BinaryField()
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return str(self.id)
