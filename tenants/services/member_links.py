"""The links that members get by mail: to join, and to set another password. Signed, good for a while, and for once.

A link carries a fingerprint of the account's password. Both kinds end in another password, so a link that was followed
is void, and so are all that were sent before it.
"""

from __future__ import annotations

import enum
from datetime import timedelta
from uuid import UUID

from django.core import signing
from django.utils.crypto import constant_time_compare, salted_hmac

from chatplatform.api.problem import Code, Problem
from chatplatform.tenancy import TenantRef
from tenants.models import Membership
from tenants.selectors import page_url
from tenants.vocabulary import MemberState


class Link(enum.StrEnum):
    """What a link is for; also its place in the console."""

    JOIN = "join"
    RESET = "reset"


LIFETIMES = {Link.JOIN: timedelta(days=7), Link.RESET: timedelta(hours=1)}
FOR = {Link.JOIN: MemberState.INVITED, Link.RESET: MemberState.JOINED}


def url(kind: Link, membership: Membership) -> str:
    """The link. Always at the platform's own name for the tenant: its domains may be in other hands by now.

    The token is in the query, which is not logged.
    """
    return f"{page_url(membership.tenant.slug)}console/{kind}?token={make(kind, membership)}"


def make(kind: Link, membership: Membership) -> str:
    """The token of a link."""
    return signing.dumps(
        [str(membership.pk), _fingerprint(membership)], salt=_salt(kind, membership.tenant_id)
    )


def named(kind: Link, tenant: TenantRef, token: str) -> tuple[UUID, str]:
    """Which membership of this tenant a token names, and the fingerprint for `is_good`. Raises Problem `not_found`."""
    try:
        membership_id, fingerprint = signing.loads(
            token, salt=_salt(kind, tenant.id), max_age=LIFETIMES[kind]
        )
        return UUID(membership_id), str(fingerprint)
    except (signing.BadSignature, ValueError, TypeError, AttributeError) as error:
        raise void() from error


def is_good(kind: Link, membership: Membership, fingerprint: str) -> bool:
    """Whether a link may be followed, as its membership is now."""
    return membership.state is FOR[kind] and constant_time_compare(fingerprint, _fingerprint(membership))


def void() -> Problem:
    """404 of a link that leads nowhere any more."""
    return Problem(Code.NOT_FOUND, "This link is not good any more: it was used, or it is too old.")


def _fingerprint(membership: Membership) -> str:
    user = membership.user
    return salted_hmac("chatplatform.member-link", f"{user.pk}:{user.password}").hexdigest()[:32]


def _salt(kind: Link, tenant_id: UUID) -> str:
    return f"chatplatform.member.{kind}.{tenant_id}"
