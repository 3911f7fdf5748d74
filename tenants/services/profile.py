"""What a tenant is called, which tier it is on, and whether what people write is sealed."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from chatplatform import tenancy
from chatplatform.api.fields import one_line
from chatplatform.tenancy import TenantRef
from tenants import audit, control
from tenants.models import Tenant
from tenants.signals import tier_changes
from tenants.vocabulary import AuditAction, Tier


def change(tenant: TenantRef, *, name: str, tier: Tier, encrypts: bool | None = None) -> None:
    """Rename a tenant, move it to another tier, or have texts sealed (None: as before), everywhere within 5 seconds.

    Raises Problem for a wrong name.
    """
    one_line("name", name)
    with tenancy.in_platform(), transaction.atomic():
        before = Tenant.objects.select_for_update().get(id=tenant.id)
        sealed = before.encrypts if encrypts is None else encrypts
        rows = Tenant.objects.filter(id=tenant.id)
        rows.update(name=name, tier=tier, encrypts=sealed, updated_at=timezone.now())
        changes: dict[str, list[object]] = {}
        if before.name != name:
            changes["name"] = [audit.digest(before.name), audit.digest(name)]
        if before.tier != tier:
            changes["tier"] = [before.tier, tier]
            tier_changes.send(Tenant, tenant=before, tier=tier)
        if before.encrypts != sealed:
            changes["encrypts"] = [before.encrypts, sealed]
        if changes:
            audit.record(AuditAction.TENANT_CHANGED, tenant.id, tenant=tenant.id, changes=changes)
    control.tenant_changed(tenant.id)
