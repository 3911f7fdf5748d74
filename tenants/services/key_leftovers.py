"""Keys that were deleted are made to go from PostgreSQL's files as well: there they would open what else lies about."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from uuid import UUID

import structlog
from django.db.models.expressions import RawSQL

from chatplatform import tenancy
from chatplatform.postgres import leftovers
from tenants.models import DataKey, DeletedKeys, Tenant

log = structlog.get_logger("tenants.key_leftovers")
BY = RawSQL("xmin::text", [])  # what a row was written by


def note() -> None:
    """Keys of the current tenant are deleted in this transaction."""
    tenant = tenancy.current_tenant()
    with tenancy.in_platform():
        DeletedKeys.objects.create(tenant=tenant.id)


def clear() -> int:
    """Have PostgreSQL let go of what was noted; how many tenants' keys. What cannot be done now is left noted."""
    noted: dict[UUID, dict[UUID, str]] = defaultdict(
        dict
    )  # by tenant: the notes, and the transaction of each
    with tenancy.in_platform():
        for id, tenant, by in DeletedKeys.objects.annotate(by=BY).values_list("id", "tenant", "by"):
            noted[tenant][id] = by
        schemas = dict(Tenant.objects.filter(id__in=noted).values_list("id", "schema_name"))
    cleared = [tenant for tenant in noted if _rewritten(schemas.get(tenant), noted[tenant].values())]
    if not cleared:
        return 0
    if not leftovers.leave_wal_behind():
        log.info("wal_left_to_postgres")
    with tenancy.in_platform():
        DeletedKeys.objects.filter(id__in=[id for tenant in cleared for id in noted[tenant]]).delete()
    return len(cleared)


def _rewritten(schema: str | None, deleting: Collection[str]) -> bool:
    if schema is None:
        return True  # the tenant is gone, with its files
    try:
        leftovers.rewrite(schema, DataKey._meta.db_table, list(deleting))
    except leftovers.NotNow as reason:
        log.info("deleted_keys_wait", schema=schema, why=str(reason))
        return False
    return True
