"""The sessions of members: begun by a password or a provider's word, good at one tenant, listed and ended.

Whoever has a second factor, or needs one, gets a session that waits for it: it opens nothing but the way on.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from chatplatform import tenancy
from chatplatform.observability.context import client_address
from chatplatform.tenancy import TenantRef
from tenants import audit
from tenants.models import MemberSession, Membership, SecondFactor, SignInProvider
from tenants.vocabulary import ActorKind, AuditAction, FactorKind

IDLE = timedelta(days=7)
LONGEST = timedelta(days=30)
NOTED_EVERY = timedelta(minutes=1)
AWAITED = timedelta(minutes=15)  # how long a session waits for the second factor
RECENT = timedelta(minutes=15)  # how long ago one may have shown who one is, to change how that is shown


def start(membership: Membership, *, agent: str, provider: SignInProvider | None = None) -> str:
    """Begin a session; the token is seen this once, the table has its hash. `provider` is who vouched for the member.

    One that asks for a second factor itself has seen it.
    """
    token = secrets.token_urlsafe(32)
    said: dict[str, Any] = {"provider": str(provider.pk)} if provider else {}
    with tenancy.in_platform(), transaction.atomic():
        MemberSession.objects.create(
            membership=membership,
            token_hash=_hash(token),
            provider=provider,
            proved_at=timezone.now() if provider and provider.asks_second_factor else None,
            address=(client_address.get() or "")[:45],
            agent=agent.replace("\0", "")[:300],
        )
        audit.record(
            AuditAction.MEMBER_SIGNED_IN,
            membership.pk,
            tenant=membership.tenant_id,
            actor=(ActorKind.MEMBER, str(membership.pk)),
            **said,
        )
    return token


def find(tenant: TenantRef, token: str) -> MemberSession | None:
    """The session of this token, with its membership and tenant, if it is good at this tenant now.

    `is_complete` says whether it may open anything, or waits for a second factor.
    """
    now = timezone.now()
    with tenancy.in_platform():
        session = (
            MemberSession.objects.select_related("membership__tenant")
            .annotate(has_factor=Exists(_factors()))
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
    if session is None or is_complete(session):
        return session
    return session if session.created_at > now - AWAITED else None


def is_complete(session: MemberSession) -> bool:
    """Whether a session that was found has shown all that it needs to; asked anew with each request."""
    needed = session.has_factor or session.membership.tenant.needs_second_factor  # type: ignore[attr-defined]
    return session.proved_at is not None or not needed


def is_recent(session: MemberSession) -> bool:
    """Whether the person has shown who they are a short while ago."""
    return max(session.created_at, session.proved_at or session.created_at) > timezone.now() - RECENT


def prove(session: MemberSession) -> None:
    """A second factor was shown, or added, in it."""
    with tenancy.in_platform():
        MemberSession.objects.filter(pk=session.pk).update(proved_at=timezone.now(), ceremony=None)


def keep_ceremony(session: MemberSession, state: Any) -> None:
    """What the passkey that is asked for has to sign; the one before is void."""
    with tenancy.in_platform():
        MemberSession.objects.filter(pk=session.pk).update(ceremony=state)


def take_ceremony(session: MemberSession) -> Any:
    """The same, this once: of two answers, the second finds none."""
    with tenancy.in_platform(), transaction.atomic():
        kept = MemberSession.objects.select_for_update().filter(pk=session.pk).first()
        MemberSession.objects.filter(pk=session.pk).update(ceremony=None)
    return kept.ceremony if kept else None


def _factors() -> Any:
    own = SecondFactor.objects.filter(user_id=OuterRef("membership__user_id"))
    return own.exclude(kind=FactorKind.CODE)


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
