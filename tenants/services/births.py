"""How far a tenant's birth has come, and starting it again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from chatplatform import jobs, tenancy
from tenants import audit
from tenants.models import Tenant
from tenants.vocabulary import AuditAction, TenantStatus

PROVISION = "tenants.provision_tenant"
PATIENCE = timedelta(seconds=20)  # a birth takes about one; after this nobody seems to be at it
STEPS = (TenantStatus.REQUESTED, TenantStatus.SCHEMA, TenantStatus.SEEDED, TenantStatus.ACTIVE)
BORN = (TenantStatus.ACTIVE, TenantStatus.SUSPENDED)


@dataclass(frozen=True, slots=True)
class Progress:
    """A birth as a page shows it. `reached` counts the STEPS behind it; `why` is the reason of a failure."""

    status: TenantStatus
    reached: int
    finished: bool
    failed: bool
    why: str
    may_retry: bool


def progress(tenant: Tenant) -> Progress:
    """How far the birth has come."""
    status = TenantStatus(tenant.status)
    finished, failed = status in BORN, status is TenantStatus.FAILED
    silent = timezone.now() - tenant.updated_at > PATIENCE
    reached = len(STEPS) if finished else _reached(tenant, status)
    return Progress(
        status=status,
        reached=reached,
        finished=finished,
        failed=failed,
        why=tenant.status_detail if failed else "",
        may_retry=failed or (silent and not finished),
    )


def start(tenant: Tenant) -> None:
    """Have a worker take the tenant to `active`."""
    jobs.enqueue_on_commit(PROVISION, str(tenant.id))


def start_again(tenant_id: UUID) -> bool:
    """Give a failed or forgotten birth another try. False if there is nothing to try. Raises Tenant.DoesNotExist."""
    with tenancy.in_platform():
        tenant = Tenant.objects.get(id=tenant_id)
        if not progress(tenant).may_retry:
            return False
        with transaction.atomic():
            Tenant.objects.filter(id=tenant_id, status=TenantStatus.FAILED).update(
                status=TenantStatus.REQUESTED, status_detail="", updated_at=timezone.now()
            )
            audit.record(AuditAction.TENANT_RETRIED, tenant_id, tenant=tenant_id)
            start(tenant)
    return True


def pick_up_forgotten() -> int:
    """Start births again whose job was lost (the broker was away); returns how many. Failed ones wait for a person."""
    with tenancy.in_platform():
        waiting = Tenant.objects.filter(status__in=STEPS[:-1], updated_at__lt=timezone.now() - PATIENCE)
        forgotten = list(waiting)
        waiting.update(updated_at=timezone.now())  # the next look comes when this try has had its time
    for tenant in forgotten:
        start(tenant)
    return len(forgotten)


def _reached(tenant: Tenant, status: TenantStatus) -> int:
    if status in STEPS:
        return STEPS.index(status) + 1
    # A failure keeps no note of its step, but a schema that was migrated left one.
    return 2 if tenant.migrated_to else 1
