"""Suspending, resuming and erasing a tenant."""

from __future__ import annotations

from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from redis import Redis
from redis.exceptions import RedisError

from chatplatform import tenancy
from chatplatform.api.problem import Code, Problem
from chatplatform.postgres import roles
from tenants import audit, control, keyring
from tenants.audit import certificates
from tenants.models import Tenant, TenantKey
from tenants.services import members, provisioning
from tenants.vocabulary import AuditAction, TenantStatus

log = structlog.get_logger("tenants.lifecycle")
KEPT = ["audit log, by id"]


def suspend(slug: str) -> Tenant:
    """Refuse the tenant everywhere within 5 s and close its sockets. Raises Tenant.DoesNotExist, Problem."""
    return _move(slug, TenantStatus.ACTIVE, TenantStatus.SUSPENDED, AuditAction.TENANT_SUSPENDED)


def resume(slug: str) -> Tenant:
    """Serve a suspended tenant again. Raises Tenant.DoesNotExist, Problem."""
    return _move(slug, TenantStatus.SUSPENDED, TenantStatus.ACTIVE, AuditAction.TENANT_RESUMED)


def erase(slug: str) -> dict[str, Any]:
    """Remove the tenant: schema, role, keys, configuration. There is no way back. Gives a certificate.

    Raises Tenant.DoesNotExist, Problem: it is on legal hold.
    """
    with tenancy.in_platform():
        tenant = Tenant.objects.get(slug=slug)
    check_no_hold(tenant)
    with provisioning.alone(tenant):  # a birth under way would make again what is dropped here
        with tenancy.in_platform():
            Tenant.objects.filter(id=tenant.id).update(status=TenantStatus.SUSPENDED)
        control.tenant_changed(tenant.id)
        roles.drop_schema(tenant.schema_name)
        with tenancy.in_platform(), transaction.atomic():
            members.forget_accounts(tenant.ref)
            TenantKey.objects.filter(tenant=tenant.id).delete()
            Tenant.objects.filter(id=tenant.id).delete()
            certificate = certificates.made("tenant", tenant=str(tenant.id), slug=slug, kept=KEPT)
            audit.record(
                AuditAction.TENANT_ERASED, tenant.id, tenant=tenant.id, slug=slug, certificate=certificate
            )
    control.tenant_changed(tenant.id)
    keyring.drop(tenant.id)
    _empty_valkey(tenant)
    return certificate


def _empty_valkey(tenant: Tenant) -> None:
    """Event logs, caches and counters; they would expire, the last after an hour."""
    for url in {settings.CACHE_URL, settings.EVENT_LOG_URL, settings.RATE_LIMIT_URL}:
        try:
            with Redis.from_url(url, socket_timeout=5, socket_connect_timeout=2) as server:
                for key in server.scan_iter(match=f"cp:{tenant.id}:*", count=1000):
                    server.unlink(key)
        except RedisError as error:
            log.warning("valkey_not_emptied", slug=tenant.slug, error=type(error).__name__)


def check_no_hold(tenant: Tenant) -> None:
    """Raises Problem `not_allowed` if nothing of this tenant may be deleted."""
    if tenant.legal_hold:
        raise Problem(Code.NOT_ALLOWED, f"{tenant.slug} is on legal hold: nothing of it may be deleted.")


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
