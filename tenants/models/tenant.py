"""Who: a tenant, and the host names it answers to."""

from __future__ import annotations

from typing import Any

from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django_tenants.models import DomainMixin, TenantMixin

from chatplatform.postgres.models import SharedModel
from chatplatform.tenancy import TenantRef
from tenants.vocabulary import TenantStatus, Tier

SLUG = r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?"
valid_slug = RegexValidator(
    rf"^{SLUG}\Z",
    "Up to 40 lower-case letters, digits and hyphens, beginning and ending with a letter or digit.",
)


class Tenant(TenantMixin, SharedModel):  # type: ignore[misc]
    """A customer: its own schema, configuration, knowledge, keys and pages."""

    # Schemas are made by tenants.services.provisioning, under the owner role; never as a side effect of save().
    auto_create_schema = False

    slug = models.CharField(max_length=40, unique=True, validators=[valid_slug])
    name = models.CharField(max_length=200)
    tier = models.CharField(max_length=20, choices=Tier.choices, default=Tier.FREE)
    status = models.CharField(max_length=20, choices=TenantStatus.choices, default=TenantStatus.REQUESTED)
    status_detail = models.TextField(blank=True, default="")
    database = models.CharField(max_length=63, default="default", editable=False)
    migrated_to = models.CharField(
        max_length=64,
        blank=True,
        default="",
        editable=False,
        help_text="Digest of the migrations its schema has",
    )
    # With the database's own default: processes of the version before write tenants, too.
    needs_second_factor = models.BooleanField(
        default=False, db_default=False, help_text="Of members, for its console"
    )
    encrypts = models.BooleanField(
        "encrypt texts",
        default=True,
        db_default=True,
        help_text="Seal what people write before it is stored. What is stored stays as it is.",
    )
    retention_days = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Conversations in which nothing was said for so many days are deleted. Empty: never.",
    )
    legal_hold = models.BooleanField(
        default=False,
        db_default=False,
        help_text="Nothing of this tenant is deleted: neither by age, nor an end user, nor the tenant.",
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.name

    # django-tenants' ways into a tenant mix up threads and tasks; chatplatform.tenancy is the only way.
    def __enter__(self) -> Any:
        raise TypeError("Use chatplatform.tenancy.in_tenant(tenant.ref).")

    activate = deactivate = __enter__

    @property
    def ref(self) -> TenantRef:
        """What it takes to enter this tenant."""
        return TenantRef(self.id, self.slug, self.schema_name, self.database)


class Domain(DomainMixin, SharedModel):  # type: ignore[misc]
    """A host name of a tenant's own, beside `<slug>.<PLATFORM_DOMAIN>`."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="domains")

    class Meta:
        ordering = ["domain"]

    def __str__(self) -> str:
        return str(self.domain)
