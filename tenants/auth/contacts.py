"""The cookie of an end user on the tenant's own pages: a signed contact id, good on that tenant's hosts alone.

An anonymous visitor's lasts half a year from the last visit. Who was signed in with a token stays so as long as the
token is good, and no longer.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core import signing
from django.http.response import HttpResponseBase

from chatplatform.tenancy import TenantRef
from tenants.auth import standing

COOKIE = settings.VISITOR_COOKIE_NAME
MAX_AGE = 180 * 24 * 3600  # s


@dataclass(frozen=True, slots=True)
class Session:
    """Whose cookie it is; `rests_on` and `expires_at` as in Principal."""

    contact_id: UUID
    rests_on: tuple[str, ...] = ()
    expires_at: float | None = None


def read(cookies: dict[str, str], tenant: TenantRef) -> Session | None:
    """The session of a request's cookie, or None if there is none that this tenant signed and that is good."""
    try:
        stored: Any = signing.loads(cookies.get(COOKIE, ""), salt=_salt(tenant), max_age=MAX_AGE)
        session = _session(stored)
    except (signing.BadSignature, ValueError, TypeError):
        return None
    if standing.is_over(session.expires_at) or standing.gone(session.rests_on):
        return None
    return session


def write(response: HttpResponseBase, session: Session, tenant: TenantRef) -> None:
    """Give a browser its cookie."""
    stored: Any = str(session.contact_id)
    if session.expires_at is not None:
        stored = [stored, session.expires_at, *session.rests_on]
    left = MAX_AGE if session.expires_at is None else max(0, int(session.expires_at - time.time()))
    response.set_cookie(
        COOKIE,
        signing.dumps(stored, salt=_salt(tenant)),
        max_age=left,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )


def _session(stored: Any) -> Session:
    if isinstance(stored, str):
        return Session(UUID(stored))
    contact_id, expires_at, *rests_on = stored
    return Session(UUID(contact_id), tuple(rests_on), float(expires_at))


def _salt(tenant: TenantRef) -> str:
    return f"chatplatform.visitor.{tenant.id}"
