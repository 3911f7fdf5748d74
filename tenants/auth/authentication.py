"""From a request to a principal. The credential decides the tenant; whatever else names one must agree."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest
from django.middleware.csrf import CsrfViewMiddleware
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from chatplatform.api.problem import Code, Problem
from tenants import selectors
from tenants.auth import contacts, tokens
from tenants.auth.contacts import Session
from tenants.auth.principal import Principal
from tenants.models import Tenant
from tenants.selectors import TenantState
from tenants.services import api_keys
from tenants.vocabulary import Scope

CHALLENGE = {"WWW-Authenticate": "Bearer"}


class BearerAuthentication(BaseAuthentication):
    """`Authorization: Bearer <API key or token>`. Ignores cookies."""

    def authenticate(self, request: Request) -> tuple[Principal, None] | None:
        header = request.META.get("HTTP_AUTHORIZATION")
        if header is None:
            return None
        return bearer(header, request.META.get("HTTP_X_TENANT_ID"), _host_tenant(request)), None

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class VisitorAuthentication(BaseAuthentication):
    """The visitor's cookie on the tenant's own hosts, with CSRF protection."""

    def authenticate(self, request: Request) -> tuple[Principal, None] | None:
        tenant = _host_tenant(request)
        if tenant is None or "HTTP_AUTHORIZATION" in request.META:
            return None
        principal = visitor(request._request.COOKIES, tenant)
        if principal is None:
            return None
        _check_csrf(request._request)
        _check_names(tenant, request.META.get("HTTP_X_TENANT_ID"), tenant)
        return principal, None


def bearer(header: str, named: str | None, host: TenantState | None) -> Principal:
    """The principal of an Authorization header. `named` is X-Tenant-ID, `host` the tenant of the host name.

    Raises Problem: `not_authenticated`, `tenant_mismatch`, `tenant_suspended`, `not_found`.
    """
    scheme, _, shown = header.partition(" ")
    if scheme.lower() != "bearer":
        raise Problem(Code.NOT_AUTHENTICATED, headers=CHALLENGE)
    shown = shown.strip()
    if tokens.looks_like_one(shown):
        return end_user(shown, named, host)
    key = api_keys.check(shown)
    credential, scopes = f"key:{key.public_id}", frozenset(key.scopes)
    if key.tenant_id is not None:
        own = _own_tenant(key.tenant_id)
        _check_names(own, named, host)
        selectors.check_served(own)
        return Principal(credential, scopes, own, rests_on=(credential,))
    acting = _named_tenant(named) if named else None
    if acting and host and acting.ref.id != host.ref.id:
        raise Problem(Code.TENANT_MISMATCH)
    staff = Scope.PLATFORM in scopes
    if acting and not staff:
        selectors.check_served(acting)
    return Principal(credential, scopes, acting, platform=staff, rests_on=(credential,))


def end_user(shown: str, named: str | None, host: TenantState | None) -> Principal:
    """The principal of an end user's token; `named` and `host` as for `bearer`.

    Raises Problem: `not_authenticated`, `tenant_mismatch`, `tenant_suspended`; KeysAwaited.
    """
    token = tokens.check(shown)
    own = _own_tenant(token.tenant_id)
    _check_names(own, named, host)
    selectors.check_served(own)
    return Principal(
        f"contact:{token.contact_id}",
        token.scopes,
        own,
        contact_id=token.contact_id,
        rests_on=token.rests_on,
        expires_at=token.expires_at,
    )


def visitor(cookies: dict[str, str], tenant: TenantState) -> Principal | None:
    """The principal of a visitor's cookie on a host of this tenant, or None."""
    session = contacts.read(cookies, tenant.ref)
    if session is None:
        return None
    selectors.check_served(tenant)
    return of_session(session, tenant)


def of_session(session: Session, tenant: TenantState) -> Principal:
    """The principal of a visitor's session."""
    return Principal(
        f"contact:{session.contact_id}",
        frozenset({Scope.CHAT}),
        tenant,
        contact_id=session.contact_id,
        rests_on=session.rests_on,
        expires_at=session.expires_at,
    )


def _check_names(own: TenantState, named: str | None, host: TenantState | None) -> None:
    if (named is not None and named != own.ref.slug) or (host is not None and host.ref.id != own.ref.id):
        raise Problem(Code.TENANT_MISMATCH)


def _own_tenant(tenant_id: UUID) -> TenantState:
    try:
        return selectors.state(tenant_id)
    except Tenant.DoesNotExist as error:  # erased a moment ago, and the key with it
        raise Problem(Code.NOT_AUTHENTICATED, headers=CHALLENGE) from error


def _named_tenant(slug: str) -> TenantState:
    try:
        return selectors.tenant_by_slug(slug)
    except Tenant.DoesNotExist as error:
        raise Problem(Code.NOT_FOUND, "There is no such tenant.") from error


def _host_tenant(request: Request | HttpRequest) -> TenantState | None:
    found: TenantState | None = getattr(request, "tenant", None)
    return found


def _check_csrf(request: HttpRequest) -> None:
    check: Any = CsrfViewMiddleware(lambda _: None)  # type: ignore[arg-type]
    check.process_request(request)
    if check.process_view(request, None, (), {}) is not None:
        raise Problem(Code.NOT_ALLOWED, "The CSRF token is missing or wrong.")
