"""`manage.py list_tenants`"""

from __future__ import annotations

from typing import Any

from chatplatform.management.base import PlatformCommand, Result, table
from chatplatform.postgres import migrations
from tenants.models import Tenant
from tenants.selectors import page_url


def as_row(tenant: Tenant) -> dict[str, Any]:
    """A tenant as operators want to see it."""
    return {
        "slug": tenant.slug,
        "name": tenant.name,
        "tier": tenant.tier,
        "status": tenant.status,
        "migrated": tenant.migrated_to == migrations.wanted_state(),
        "url": page_url(tenant.slug),
        "domains": [domain.domain for domain in tenant.domains.all()],
        "created_at": tenant.created_at.isoformat(),
        "detail": tenant.status_detail,
    }


class Command(PlatformCommand):
    help = "List all tenants, with their status and addresses."

    def run(self, **options: Any) -> Result:
        return {"tenants": [as_row(tenant) for tenant in Tenant.objects.prefetch_related("domains")]}

    def as_text(self, result: Result) -> str:
        return table(
            ["slug", "name", "tier", "status", "migrated", "url", "domains", "detail"], result["tenants"]
        )
