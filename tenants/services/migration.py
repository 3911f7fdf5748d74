"""Which tenants' schemas are behind, and bringing one of them up to date."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from django.db import connections, transaction

from chatplatform import tenancy
from chatplatform.api.problem import invalid
from chatplatform.postgres import migrations, roles
from tenants import audit
from tenants.models import Tenant
from tenants.vocabulary import AuditAction, TenantStatus

LOCK = 0x63706D67  # "cpmg": one migration of the tenants at a time
# The others are being born, or failed at it: provisioning migrates them itself.
WITH_SCHEMA = (TenantStatus.SCHEMA, TenantStatus.SEEDED, TenantStatus.ACTIVE, TenantStatus.SUSPENDED)


def behind(canaries: Sequence[str] = ()) -> tuple[list[Tenant], list[Tenant]]:
    """The tenants whose schemas miss migrations: canaries in the order given, then the others by slug.

    One query for all of them. Raises Problem if a canary is no tenant.
    """
    with tenancy.in_platform():
        known = set(Tenant.objects.filter(slug__in=canaries).values_list("slug", flat=True))
        if unknown := [slug for slug in canaries if slug not in known]:
            raise invalid("canary", f"There is no tenant {unknown[0]!r}.")
        late = Tenant.objects.filter(status__in=WITH_SCHEMA).exclude(migrated_to=migrations.wanted_state())
        by_slug = {tenant.slug: tenant for tenant in late}
    first = [by_slug.pop(slug) for slug in dict.fromkeys(canaries) if slug in by_slug]
    return first, list(by_slug.values())


def bring_up_to_date(tenant: Tenant) -> None:
    """Apply what one schema misses, and note that it has it. Raises what the database raises."""
    migrations.migrate_schema(tenant.ref)
    state = migrations.wanted_state()
    with tenancy.in_platform(), transaction.atomic():
        Tenant.objects.filter(id=tenant.id).update(migrated_to=state)
        audit.record(AuditAction.TENANT_MIGRATED, tenant.id, tenant=tenant.id, to=state)


@contextmanager
def alone() -> Iterator[None]:
    """Waits until no other process migrates tenants, and keeps others waiting."""
    with tenancy.in_platform(), connections[roles.ADMIN].cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [LOCK])
    try:
        yield
    finally:
        with tenancy.in_platform(), connections[roles.ADMIN].cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [LOCK])
