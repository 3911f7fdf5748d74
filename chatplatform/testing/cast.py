"""The two tenants that all tests have: Acme and Globex."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from billing import pricing
from chatplatform import tenancy
from chatplatform.postgres import migrations, roles
from tenants import selectors
from tenants.models import Tenant
from tenants.selectors import TenantState
from tenants.services import api_keys, provisioning
from tenants.vocabulary import Scope, Tier

NAMES = {"acme": "Acme", "globex": "Globex"}
TENANT_SCOPES = [scope for scope in Scope if scope is not Scope.PLATFORM]


def prepare() -> None:
    """Migrate the database and make the tenants. Safe to repeat."""
    roles.prepare_database()
    migrations.migrate_shared()
    pricing.load()  # for tests in an event loop, which never waits for the database
    for slug, name in NAMES.items():
        with tenancy.in_platform():
            if Tenant.objects.filter(slug=slug).exists():
                continue
        tenant, _, _ = provisioning.request_tenant(name, slug)
        provisioning.provision(tenant.id)


def state(slug: str) -> TenantState:
    """A tenant as requests see it."""
    selectors.forget()
    return selectors.tenant_by_slug(slug)


@contextmanager
def on_tier(slug: str, tier: Tier) -> Iterator[None]:
    """A tenant has the plan of another tier for a while, as this process sees it."""

    def move(to: str) -> None:
        with tenancy.in_platform():
            Tenant.objects.filter(slug=slug).update(tier=to)
        selectors.forget()

    before = state(slug).tier
    move(tier)
    try:
        yield
    finally:
        move(before)


def key(slug: str | None, *scopes: str) -> str:
    """A new API key of a tenant (all its scopes by default), or of the platform if `slug` is None."""
    with tenancy.in_platform():
        tenant = Tenant.objects.get(slug=slug) if slug else None
    wanted = scopes or (TENANT_SCOPES if tenant else [Scope.PLATFORM])
    return api_keys.create(tenant, wanted, name="test")[1]
