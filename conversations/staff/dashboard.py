"""The console's first page: a few numbers, straight from the control plane's tables."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Q
from django.http import HttpRequest
from django.utils import timezone

from conversations.models import Work
from conversations.models.work import WorkState
from tenants.models import AuditEntry, Tenant
from tenants.vocabulary import AuditAction, TenantStatus

LONG_WAIT = timedelta(seconds=30)
SLOW_BIRTH = timedelta(minutes=1)
LOOKS = (
    AuditAction.CONVERSATIONS_LISTED,
    AuditAction.CONVERSATIONS_SEARCHED,
    AuditAction.CONVERSATION_READ,
    AuditAction.SPENDING_READ,
    AuditAction.INVOICE_READ,
)
UNBORN = (TenantStatus.REQUESTED, TenantStatus.SCHEMA, TenantStatus.SEEDED)


def fill(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """unfold's DASHBOARD_CALLBACK: adds what the visitor may see."""
    context["title"] = "Dashboard"
    now = timezone.now()
    may = request.user.has_perm
    if may("tenants.view_tenant"):
        context["tenants"] = _tenants()
        context["stuck"] = _stuck(now)
    if may("conversations.view_work"):
        context["work"] = _work(now)
    if may("tenants.view_auditentry"):
        context["looks"] = _looks()
    return context


def _tenants() -> list[dict[str, Any]]:
    counted = Tenant.objects.order_by().values_list("status").annotate(count=Count("id"))
    counts = dict(counted)
    shown = [status for status in TenantStatus if counts.get(status) or status is TenantStatus.ACTIVE]
    return [{"status": status, "label": status.label, "count": counts.get(status, 0)} for status in shown]


def _stuck(now: datetime) -> list[Tenant]:
    """Births that failed, or that nobody seems to be at."""
    slow = Q(status__in=UNBORN, updated_at__lt=now - SLOW_BIRTH)
    return list(Tenant.objects.filter(Q(status=TenantStatus.FAILED) | slow).order_by("-updated_at")[:5])


def _work(now: datetime) -> dict[str, Any]:
    """Replies by what happens to them, of all tenants."""
    pending = Q(state=WorkState.PENDING)
    leased = pending & Q(lease_expires_at__gt=now)
    waiting = pending & (Q(lease_expires_at=None) | Q(lease_expires_at__lte=now))
    counts = Work.objects.aggregate(
        in_progress=Count("id", filter=leased),
        waiting=Count("id", filter=waiting),
        settling=Count("id", filter=Q(state=WorkState.SETTLED)),
        retried=Count("id", filter=pending & Q(attempt__gt=1)),
    )
    oldest = Work.objects.filter(waiting).select_related("tenant").order_by("enqueued_at").first()
    late = oldest is not None and now - oldest.enqueued_at > LONG_WAIT
    return {**counts, "oldest": oldest, "late": late}


def _looks() -> list[dict[str, Any]]:
    newest: Any = AuditEntry.objects.named().filter(action__in=LOOKS)[:6]
    return [
        {
            "at": look.at,
            "user": look.actor_name,
            "tenant": look.tenant_slug,
            "action": look.in_words,
        }
        for look in newest
    ]
