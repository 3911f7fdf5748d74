"""Members of a tenant in their console: the cookie of a session, and who it stands for."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from tenants.auth import roles
from tenants.models import MemberSession
from tenants.selectors import TenantState
from tenants.services import member_sessions, second_factors
from tenants.services.second_factors import Holder
from tenants.vocabulary import Action

COOKIE = f"{settings.COOKIE_PREFIX}cp_member"


@dataclass(frozen=True, slots=True)
class Member:
    """Who is signed in, at which tenant, by which session."""

    tenant: TenantState
    membership_id: UUID
    session_id: UUID
    email: str
    role: str

    def may(self, action: Action) -> bool:
        """Whether the role allows it."""
        return roles.may(self.role, action)


@dataclass(frozen=True, slots=True)
class Entrance:
    """A session, and how far its member has come in."""

    tenant: TenantState
    session: MemberSession

    @property
    def member(self) -> Member | None:
        """Who is signed in; None while the session waits for a second factor."""
        return as_member(self.tenant, self.session) if member_sessions.is_complete(self.session) else None

    @property
    def holder(self) -> Holder:
        """Whose second factors are asked for."""
        return second_factors.of_member(self.session.membership)


def of_request(request: HttpRequest, tenant: TenantState) -> Member | None:
    """The member whose session the request carries; sessions of other tenants are none here, nor are those that wait
    for a second factor.
    """
    entrance = entrance_of(request, tenant)
    return entrance.member if entrance else None


def entrance_of(request: HttpRequest, tenant: TenantState) -> Entrance | None:
    """The session that the request carries, even if it waits for a second factor."""
    token = request.COOKIES.get(COOKIE)
    session = member_sessions.find(tenant.ref, token) if token else None
    return Entrance(tenant, session) if session else None


def as_member(tenant: TenantState, session: MemberSession) -> Member:
    """Who a session stands for."""
    membership = session.membership
    return Member(tenant, membership.pk, session.pk, membership.email, membership.role)


def write(response: HttpResponseBase, token: str) -> None:
    """Give a browser its session."""
    response.set_cookie(
        COOKIE,
        token,
        max_age=int(member_sessions.LONGEST.total_seconds()),
        path="/",
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )


def clear(response: HttpResponseBase) -> None:
    """Take it back."""
    response.delete_cookie(COOKIE, path="/", samesite="Lax")
    response.cookies[COOKIE]["secure"] = settings.SESSION_COOKIE_SECURE
