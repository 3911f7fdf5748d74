"""Keys that were deleted are made to go from PostgreSQL's files as well: there they would open what else lies about."""

from __future__ import annotations

import structlog
from django.db import transaction

from chatplatform import tenancy
from chatplatform.postgres import leftovers
from tenants.models import DataKey, DeletedKeys, Tenant

log = structlog.get_logger("tenants.key_leftovers")


def note() -> None:
    """Keys of the current tenant are deleted in this transaction."""
    tenant = tenancy.current_tenant()
    with tenancy.in_platform():
        DeletedKeys.objects.create(tenant=tenant.id)


def clear() -> int:
    """Have PostgreSQL let go of what was noted; how many tenants' keys. What cannot be done now is left noted."""
    with tenancy.in_platform():
        noted = list(DeletedKeys.objects.values_list("id", "tenant"))
        schemas = dict(Tenant.objects.filter(id__in={id for _, id in noted}).values_list("id", "schema_name"))
    cleared = {tenant for tenant in {id for _, id in noted} if _rewritten(schemas.get(tenant))}
    if not cleared:
        return 0
    if not leftovers.leave_wal_behind():
        log.info("wal_left_to_postgres")
    with tenancy.in_platform(), transaction.atomic():
        DeletedKeys.objects.filter(id__in=[id for id, tenant in noted if tenant in cleared]).delete()
    return len(cleared)


def _rewritten(schema: str | None) -> bool:
    if schema is None:
        return True  # the tenant is gone, with its files
    try:
        leftovers.rewrite(schema, DataKey._meta.db_table)
    except leftovers.NotNow as reason:
        log.info("deleted_keys_wait", schema=schema, why=str(reason))
        return False
    return True
