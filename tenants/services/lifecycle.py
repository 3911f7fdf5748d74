"""Suspending, resuming and erasing a tenant."""

from __future__ import annotations

from django.db import transaction

from chatplatform import tenancy
from chatplatform.api.problem import Code, Problem
from chatplatform.postgres import roles
from tenants import audit, control, keyring
from tenants.models import Tenant, TenantKey
from tenants.services import members, provisioning
from tenants.vocabulary import AuditAction, TenantStatus


def suspend(slug: str) -> Tenant:
    """Refuse the tenant everywhere within 5 s and close its sockets. Raises Tenant.DoesNotExist, Problem."""
    return _move(slug, TenantStatus.ACTIVE, TenantStatus.SUSPENDED, AuditAction.TENANT_SUSPENDED)


def resume(slug: str) -> Tenant:
    """Serve a suspended tenant again. Raises Tenant.DoesNotExist, Problem."""
    return _move(slug, TenantStatus.SUSPENDED, TenantStatus.ACTIVE, AuditAction.TENANT_RESUMED)


def erase(slug: str) -> Tenant:
    """Remove the tenant: schema, role, keys, configuration. There is no way back. Raises Tenant.DoesNotExist."""
    with tenancy.in_platform():
        tenant = Tenant.objects.get(slug=slug)
    with provisioning.alone(tenant):  # a birth under way would make again what is dropped here
        with tenancy.in_platform():
            Tenant.objects.filter(id=tenant.id).update(status=TenantStatus.SUSPENDED)
        control.tenant_changed(tenant.id)
        roles.drop_schema(tenant.schema_name)
        with tenancy.in_platform(), transaction.atomic():
            members.forget_accounts(tenant.ref)
            TenantKey.objects.filter(tenant=tenant.id).delete()
            Tenant.objects.filter(id=tenant.id).delete()
            audit.record(AuditAction.TENANT_ERASED, tenant.id, tenant=tenant.id, slug=slug)
    control.tenant_changed(tenant.id)
    keyring.drop(tenant.id)
    return tenant


def _move(slug: str, source: TenantStatus, target: TenantStatus, action: AuditAction) -> Tenant:
    with tenancy.in_platform(), transaction.atomic():
        tenant = Tenant.objects.get(slug=slug)
        moved = Tenant.objects.filter(id=tenant.id, status=source).update(status=target)
        if moved:
            audit.record(action, tenant.id, tenant=tenant.id)
        tenant.refresh_from_db()
    if not moved and tenant.status != target:
        raise Problem(Code.INVALID_REQUEST, f"The tenant {slug} is {tenant.status}, not {source}.", errors=[])
    control.tenant_changed(tenant.id)
    return tenant
