"""Deleting what was kept for as long as a tenant keeps things. Safe to break off and to repeat."""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.utils import timezone

from chatplatform import tenancy
from conversations.models import Conversation, Reply
from conversations.services import erasure
from conversations.vocabulary import RUNNING
from tenants import audit, keyring
from tenants.models import Contact, Tenant
from tenants.services import key_leftovers
from tenants.vocabulary import AuditAction, TenantStatus

log = structlog.get_logger("conversations.retention")
BATCH = 200


def expire_everywhere() -> int:
    """Delete the conversations of all tenants that are over their time; how many. Legal hold keeps all."""
    with tenancy.in_platform():
        tenants = list(
            Tenant.objects.filter(
                status__in=[TenantStatus.ACTIVE, TenantStatus.SUSPENDED],
                retention_days__isnull=False,
                legal_hold=False,
            )
        )
    done = 0
    for tenant in tenants:
        try:
            with tenancy.in_tenant(tenant.ref):
                done += expire(timezone.now() - timedelta(days=tenant.retention_days or 0))
        except Exception as error:  # one that is being erased must not keep the others waiting
            log.warning("not_expired", slug=tenant.slug, error=type(error).__name__)
    return done


def expire(before: datetime) -> int:
    """Delete conversations of the current tenant in which nothing has happened since, and contacts of whom nothing is
    left; how many conversations."""
    done, contacts = 0, 0
    while count := _expire_some(before):
        done += count
    while count := _forget_some(before):
        contacts += count
    if done or contacts:
        audit.record(AuditAction.CONVERSATIONS_EXPIRED, conversations=done, contacts=contacts)
    return done


def _expire_some(before: datetime) -> int:
    with transaction.atomic():
        # A message that comes just now waits for the lock, and finds no conversation.
        old = Conversation.objects.filter(updated_at__lt=before).exclude(replies__status__in=RUNNING)
        ids = list(old.select_for_update(of=("self",)).order_by("id").values_list("id", flat=True)[:BATCH])
        replies = list(Reply.objects.filter(conversation__in=ids).values_list("pk", flat=True))
        if ids:
            erasure.remove_conversations(ids, replies)
    return len(ids)


def _forget_some(before: datetime) -> int:
    with transaction.atomic():
        unused = Contact.objects.filter(conversations__isnull=True, updated_at__lt=before)
        ids = list(unused.select_for_update(of=("self",)).values_list("id", flat=True)[:BATCH])
        Contact.objects.filter(id__in=ids).delete()
        if ids:
            key_leftovers.note()
    for id in ids:
        keyring.drop(tenancy.current_tenant().id, id)
    return len(ids)
