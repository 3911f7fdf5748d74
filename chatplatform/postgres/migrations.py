"""Brings `public` and tenants' schemas up to date, as the owner role, touching only what is behind."""

from __future__ import annotations

import hashlib
from functools import cache

from django.core.management import call_command
from django.db import connections
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader

from chatplatform import tenancy
from chatplatform.postgres import roles
from chatplatform.postgres.roles import ADMIN
from chatplatform.postgres.router import FIRST_PARTY
from chatplatform.tenancy import TenantRef


@cache
def wanted_state() -> str:
    """A digest of all first-party migrations on disk: what `Tenant.migrated_to` is compared with."""
    on_disk = MigrationLoader(None).disk_migrations
    names = sorted(f"{app}.{name}" for app, name in on_disk if app in FIRST_PARTY)
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def migrate_shared() -> None:
    """Apply what `public` misses; fast when it misses nothing."""
    with tenancy.in_platform():
        call_command("migrate", database=ADMIN, verbosity=0, interactive=False)
    roles.narrow_rights(roles.PUBLIC)


def shared_is_current() -> bool:
    """Whether `public` has every migration on disk. Raises what the database raises when it is away."""
    with tenancy.in_platform():
        executor = MigrationExecutor(connections["default"])
        return not executor.migration_plan(executor.loader.graph.leaf_nodes())


def migrate_schema(tenant: TenantRef) -> None:
    """Apply what a tenant's schema misses. The schema must exist."""
    with tenancy.in_tenant(tenant):
        executor = MigrationExecutor(connections[ADMIN])
        targets = [leaf for leaf in executor.loader.graph.leaf_nodes() if leaf[0] in FIRST_PARTY]
        executor.migrate(targets)
    roles.narrow_rights(tenant.schema)
