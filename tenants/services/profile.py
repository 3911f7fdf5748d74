"""What a tenant is called, which tier it is on, and how its data is kept."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.utils import timezone

from chatplatform import tenancy
from chatplatform.api.fields import one_line
from chatplatform.tenancy import TenantRef
from tenants import audit, control
from tenants.models import Tenant
from tenants.signals import tier_changes
from tenants.vocabulary import AuditAction, Tier

KEPT = ("encrypts", "retention_days", "legal_hold")


def change(tenant: TenantRef, *, name: str, tier: Tier, **kept: Any) -> None:
    """Rename a tenant, move it to another tier, or change how its data is kept (KEPT; what is not given stays),
    everywhere within 5 seconds. Raises Problem for a wrong name.
    """
    one_line("name", name)
    values = {"tier": tier, **{field: kept[field] for field in KEPT if field in kept}}
    with tenancy.in_platform(), transaction.atomic():
        before = Tenant.objects.select_for_update().get(id=tenant.id)
        Tenant.objects.filter(id=tenant.id).update(name=name, updated_at=timezone.now(), **values)
        was = {field: getattr(before, field) for field in values}
        changes: dict[str, list[object]] = {
            field: [was[field], value] for field, value in values.items() if was[field] != value
        }
        if before.name != name:
            changes["name"] = [audit.digest(before.name), audit.digest(name)]
        if before.tier != tier:
            tier_changes.send(Tenant, tenant=before, tier=tier)
        if changes:
            audit.record(AuditAction.TENANT_CHANGED, tenant.id, tenant=tenant.id, changes=changes)
    control.tenant_changed(tenant.id)
