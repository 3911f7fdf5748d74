"""What a tenant is called and which tier it is on."""

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


def change(tenant: TenantRef, *, name: str, tier: Tier) -> None:
    """Rename a tenant or move it to another tier, everywhere within 5 seconds. Raises Problem for a wrong name."""
    one_line("name", name)
    with tenancy.in_platform(), transaction.atomic():
        before = Tenant.objects.select_for_update().get(id=tenant.id)
        Tenant.objects.filter(id=tenant.id).update(name=name, tier=tier, updated_at=timezone.now())
        changes: dict[str, list[object]] = {}
        if before.name != name:
            changes["name"] = [audit.digest(before.name), audit.digest(name)]
        if before.tier != tier:
            changes["tier"] = [before.tier, tier]
            tier_changes.send(Tenant, tenant=before, tier=tier)
        if changes:
            audit.record(AuditAction.TENANT_CHANGED, tenant.id, tenant=tenant.id, changes=changes)
    control.tenant_changed(tenant.id)
