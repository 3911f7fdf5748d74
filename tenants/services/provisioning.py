"""The birth of a tenant: requested → schema → seeded → active, or failed and tried again from where it stopped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import structlog
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connections, transaction
from django.db.models import Q
from django.utils.text import slugify

from chatplatform import tenancy
from chatplatform.api.fields import one_line
from chatplatform.api.problem import Code, Problem, invalid
from chatplatform.postgres import migrations, names, roles
from tenants import audit, control, keyring
from tenants.models import ApiKey, ConfigurationVersion, Domain, Tenant
from tenants.models.tenant import valid_slug
from tenants.services import api_keys
from tenants.services import domains as hosts
from tenants.services.configuration import check_models
from tenants.vocabulary import AuditAction as Action
from tenants.vocabulary import Scope, TenantStatus, Tier

log = structlog.get_logger("tenants.provisioning")
RECORDED = {TenantStatus.ACTIVE: Action.TENANT_PROVISIONED, TenantStatus.FAILED: Action.TENANT_FAILED}
RESERVED = frozenset({"admin", "api", "app", "mail", "platform", "static", "status", "staff", "www"})


def request_tenant(
    name: str,
    slug: str | None = None,
    *,
    tier: str = Tier.FREE,
    domains: Sequence[str] = (),
    configuration: dict[str, Any] | None = None,
) -> tuple[Tenant, ApiKey, str]:
    """Write down a tenant to be, its first configuration and its first key (scope `chat`).

    Returns the tenant, the key's row and the key itself, which works as soon as the tenant is active.
    Raises Problem (`slug_taken`, `invalid_request`).
    """
    one_line("name", name)
    slug = _checked_slug(slug or slugify(name)[:40].strip("-"))
    check_models(configuration or {})
    checked = [hosts.checked(domain.lower()) for domain in domains]
    if tier not in Tier.values:
        raise invalid("tier", f"One of {', '.join(Tier.values)}.")
    try:
        with tenancy.in_platform(), transaction.atomic():
            _check_free(slug)
            tenant = Tenant(slug=slug, name=name, tier=tier, schema_name=names.schema_for(slug))
            tenant.save()
            version = ConfigurationVersion(
                tenant=tenant, number=1, author="provisioning", **(configuration or {})
            )
            version.full_clean(exclude=["tenant"])
            version.save()
            for domain in checked:
                Domain.objects.create(tenant=tenant, domain=domain)
            audit.record(
                Action.TENANT_REQUESTED, tenant.id, tenant=tenant.id, slug=slug, tier=tier, domains=checked
            )
            key, shown = api_keys.create(tenant, [Scope.CHAT], name="first key")
    except IntegrityError as error:
        raise Problem(Code.SLUG_TAKEN, f"The slug or a domain of {slug!r} is taken.") from error
    return tenant, key, shown


def provision(tenant_id: UUID) -> Tenant:
    """Take a requested or failed tenant to `active`. Safe to repeat and to run twice at once.

    Raises what went wrong, after writing it on the tenant as `failed`; Tenant.DoesNotExist if it was erased.
    """
    with tenancy.in_platform():
        tenant = Tenant.objects.get(id=tenant_id)
    with alone(tenant):
        with tenancy.in_platform():
            tenant.refresh_from_db()
        if tenant.status in (TenantStatus.ACTIVE, TenantStatus.SUSPENDED):
            return tenant
        try:
            _make_schema(tenant)
            _reach(tenant, TenantStatus.SEEDED)
            _reach(tenant, TenantStatus.ACTIVE)
        except Exception as error:
            log.exception("provisioning_failed", slug=tenant.slug)
            _reach(tenant, TenantStatus.FAILED, f"{type(error).__name__}: {error}"[:500])
            raise
    control.tenant_changed(tenant.id)
    return tenant


def _make_schema(tenant: Tenant) -> None:
    roles.create_schema(tenant.schema_name)
    migrations.migrate_schema(tenant.ref)
    tenant.migrated_to = migrations.wanted_state()
    with tenancy.in_tenant(tenant.ref):
        keyring.prepare()
    _reach(tenant, TenantStatus.SCHEMA)


def _reach(tenant: Tenant, status: TenantStatus, detail: str = "") -> None:
    tenant.status, tenant.status_detail = status, detail
    with tenancy.in_platform(), transaction.atomic():
        tenant.save(update_fields=["status", "status_detail", "migrated_to", "updated_at"])
        if action := RECORDED.get(status):
            audit.record(action, tenant.id, tenant=tenant.id)


@contextmanager
def alone(tenant: Tenant) -> Iterator[None]:
    """Holds an advisory lock for this tenant: one birth or erasure at a time."""
    number = tenant.id.int & 0x7FFF_FFFF_FFFF_FFFF
    with tenancy.in_platform(), connections[roles.ADMIN].cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [number])
    try:
        yield
    finally:
        with tenancy.in_platform(), connections[roles.ADMIN].cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [number])


def _check_free(slug: str) -> None:
    # The unique constraint decides between two at once; this says it in our words in all other cases.
    if Tenant.objects.filter(Q(slug=slug) | Q(schema_name__iexact=names.schema_for(slug))).exists():
        raise Problem(Code.SLUG_TAKEN, f"The slug {slug!r} is taken.")


def _checked_slug(slug: str) -> str:
    try:
        valid_slug(slug)
    except ValidationError as error:
        raise invalid("slug", error.messages[0]) from error
    if slug in RESERVED:
        raise Problem(Code.SLUG_TAKEN, f"The slug {slug!r} is reserved.")
    return slug
