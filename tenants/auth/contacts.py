"""The cookie of an end user on the tenant's own pages: a signed contact id, good on that tenant's hosts alone."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.conf import settings
from django.core import signing
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from chatplatform.tenancy import TenantRef

COOKIE = "cp_visitor"
MAX_AGE = 180 * 24 * 3600  # s


def read(cookies: dict[str, str], tenant: TenantRef) -> UUID | None:
    """The contact of a request's cookie, or None if there is none that this tenant signed."""
    try:
        return UUID(signing.loads(cookies.get(COOKIE, ""), salt=_salt(tenant), max_age=MAX_AGE))
    except (signing.BadSignature, ValueError, TypeError):
        return None


def write(response: HttpResponseBase, contact_id: UUID, tenant: TenantRef) -> None:
    """Give a browser its contact's cookie."""
    response.set_cookie(
        COOKIE,
        signing.dumps(str(contact_id), salt=_salt(tenant)),
        max_age=MAX_AGE,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )


def of_request(request: HttpRequest, tenant: TenantRef) -> UUID | None:
    cookies: Any = request.COOKIES
    return read(cookies, tenant)


def _salt(tenant: TenantRef) -> str:
    return f"chatplatform.visitor.{tenant.id}"
