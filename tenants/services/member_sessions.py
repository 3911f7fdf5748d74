"""The sessions of members: begun by a password, good at one tenant, listed and ended one by one or all."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from chatplatform import tenancy
from chatplatform.observability.context import client_address
from chatplatform.tenancy import TenantRef
from tenants import audit
from tenants.models import MemberSession, Membership
from tenants.vocabulary import ActorKind, AuditAction

IDLE = timedelta(days=7)
LONGEST = timedelta(days=30)
NOTED_EVERY = timedelta(minutes=1)


def start(membership: Membership, *, agent: str) -> str:
    """Begin a session; the token is seen this once, the table has its hash."""
    token = secrets.token_urlsafe(32)
    with tenancy.in_platform(), transaction.atomic():
        MemberSession.objects.create(
            membership=membership,
            token_hash=_hash(token),
            address=(client_address.get() or "")[:45],
            agent=agent.replace("\0", "")[:300],
        )
        audit.record(
            AuditAction.MEMBER_SIGNED_IN,
            membership.pk,
            tenant=membership.tenant_id,
            actor=(ActorKind.MEMBER, str(membership.pk)),
        )
    return token


def find(tenant: TenantRef, token: str) -> MemberSession | None:
    """The session of this token, with its membership, if it is good at this tenant now."""
    now = timezone.now()
    with tenancy.in_platform():
        session = (
            MemberSession.objects.select_related("membership")
            .exclude(_over())
            .filter(
                token_hash=_hash(token),
                membership__tenant_id=tenant.id,
                membership__joined_at__isnull=False,
                membership__disabled_at=None,
            )
            .first()
        )
        if session is not None and now - session.seen_at > NOTED_EVERY:
            MemberSession.objects.filter(pk=session.pk).update(seen_at=now)
    return session


def end(session: MemberSession) -> None:
    """Sign a browser out. Twice changes nothing."""
    with tenancy.in_platform(), transaction.atomic():
        ended, _ = MemberSession.objects.filter(pk=session.pk).delete()
        if ended:
            _record_end(session.membership, 1)


def end_all(membership: Membership, *, but: MemberSession | None = None) -> None:
    """Sign a member out everywhere, or everywhere else."""
    with tenancy.in_platform(), transaction.atomic():
        others = MemberSession.objects.filter(membership=membership)
        ended, _ = (others.exclude(pk=but.pk) if but else others).delete()
        if ended:
            _record_end(membership, ended)


def expire() -> None:
    """Forget sessions that are over."""
    with tenancy.in_platform():
        MemberSession.objects.filter(_over()).delete()


def _record_end(membership: Membership, sessions: int) -> None:
    audit.record(AuditAction.MEMBER_SIGNED_OUT, membership.pk, tenant=membership.tenant_id, sessions=sessions)


def _over() -> Q:
    now = timezone.now()
    return Q(seen_at__lte=now - IDLE) | Q(created_at__lte=now - LONGEST)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="replace")).digest()
