"""What a tenant is called and which tier it is on."""

from __future__ import annotations

from django.utils import timezone

from chatplatform import tenancy
from chatplatform.api.fields import one_line
from chatplatform.tenancy import TenantRef
from tenants import control
from tenants.models import Tenant
from tenants.vocabulary import Tier


def change(tenant: TenantRef, *, name: str, tier: Tier) -> None:
    """Rename a tenant or move it to another tier, everywhere within 5 seconds. Raises Problem for a wrong name."""
    one_line("name", name)
    with tenancy.in_platform():
        Tenant.objects.filter(id=tenant.id).update(name=name, tier=tier, updated_at=timezone.now())
    control.tenant_changed(tenant.id)
