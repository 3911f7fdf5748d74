"""The Celery edge of tenants."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from celery import shared_task
from django.utils import timezone

from chatplatform import tenancy
from chatplatform.jobs import PlatformTask
from tenants.audit import anchors
from tenants.auth.passwords import expire_tries
from tenants.models import PlatformIdempotencyRecord, Tenant, TenantIdempotencyRecord
from tenants.services import births, key_leftovers, member_mails, member_sessions, provisioning
from tenants.services.member_links import Link
from tenants.vocabulary import TenantStatus

KEEP = timedelta(hours=24)


@shared_task(
    name="tenants.provision_tenant",
    base=PlatformTask,
    autoretry_for=(Exception,),
    max_retries=3,
    retry_backoff=True,
)
def provision_tenant(tenant_id: str) -> None:
    """Take a requested tenant to active; what fails is tried again from where it stopped."""
    provisioning.provision(UUID(tenant_id))


@shared_task(name="tenants.pick_up_births", base=PlatformTask)
def pick_up_births() -> None:
    """Start births again whose job was lost."""
    births.pick_up_forgotten()


@shared_task(name="tenants.anchor_audit_log", base=PlatformTask)
def anchor_audit_log() -> None:
    """Write the heads of the audit log's chains down outside the database."""
    anchors.anchor()


@shared_task(name="tenants.expire_idempotency_records", base=PlatformTask)
def expire_idempotency_records() -> None:
    """Forget answers that were kept for 24 hours."""
    oldest = timezone.now() - KEEP
    PlatformIdempotencyRecord.objects.filter(created_at__lt=oldest).delete()
    for tenant in Tenant.objects.filter(status=TenantStatus.ACTIVE):
        with tenancy.in_tenant(tenant.ref):
            TenantIdempotencyRecord.objects.filter(created_at__lt=oldest).delete()


@shared_task(
    name="tenants.send_member_link",
    base=PlatformTask,
    autoretry_for=(Exception,),
    max_retries=5,
    retry_backoff=True,
)
def send_member_link(kind: str, membership_id: str) -> None:
    """Mail a member a link; without a member (somebody asked in the name of nobody) there is nothing to do."""
    if membership_id:
        member_mails.send_link(Link(kind), UUID(membership_id))


@shared_task(name="tenants.clear_deleted_keys", base=PlatformTask)
def clear_deleted_keys() -> None:
    """Have PostgreSQL let go of the keys of erased end users."""
    key_leftovers.clear()


@shared_task(name="tenants.expire_sign_ins", base=PlatformTask)
def expire_sign_ins() -> None:
    """Forget members' sessions that are over, and tries that count no more."""
    member_sessions.expire()
    expire_tries()
