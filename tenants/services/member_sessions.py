"""The sessions of members: begun by a password, good at one tenant, listed and ended one by one or all."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from django.db.models import Q
from django.utils import timezone

from chatplatform import tenancy
from chatplatform.tenancy import TenantRef
from tenants.models import MemberSession, Membership

IDLE = timedelta(days=7)
LONGEST = timedelta(days=30)
NOTED_EVERY = timedelta(minutes=1)


def start(membership: Membership, *, address: str, agent: str) -> str:
    """Begin a session; the token is seen this once, the table has its hash."""
    token = secrets.token_urlsafe(32)
    with tenancy.in_platform():
        MemberSession.objects.create(
            membership=membership,
            token_hash=_hash(token),
            address=address[:45],
            agent=agent.replace("\0", "")[:300],
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
    with tenancy.in_platform():
        MemberSession.objects.filter(pk=session.pk).delete()


def end_all(membership: Membership, *, but: MemberSession | None = None) -> None:
    """Sign a member out everywhere, or everywhere else."""
    with tenancy.in_platform():
        others = MemberSession.objects.filter(membership=membership)
        (others.exclude(pk=but.pk) if but else others).delete()


def expire() -> None:
    """Forget sessions that are over."""
    with tenancy.in_platform():
        MemberSession.objects.filter(_over()).delete()


def _over() -> Q:
    now = timezone.now()
    return Q(seen_at__lte=now - IDLE) | Q(created_at__lte=now - LONGEST)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="replace")).digest()
