"""What a credential stands on. When one of these goes (revoked, expired, removed), so does the credential, wherever
it is in use: on the next request, in open sockets and streams, in a session.

All is asked of what the process keeps (`tenants.selectors` and its like, at most 4 s old), so it costs no query per
request or socket.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from uuid import UUID

from tenants import selectors
from tenants.models import Tenant
from tenants.services import api_keys, signing_keys, token_issuers
from tenants.vocabulary import TenantStatus


def _is_active(tenant_id: str) -> bool:
    try:
        return selectors.state(UUID(tenant_id)).status == TenantStatus.ACTIVE
    except Tenant.DoesNotExist:
        return False


_KINDS: dict[str, Callable[[str], bool]] = {
    "tenant": _is_active,
    "key": api_keys.is_usable,
    "signing-key": signing_keys.is_published,
    "issuer": token_issuers.is_registered,
}


def holds(thing: str) -> bool:
    """Whether a thing, named `<kind>:<which>`, is still good."""
    kind, _, which = thing.partition(":")
    return _KINDS[kind](which)


def gone(things: Iterable[str]) -> set[str]:
    """Those that are not good any more."""
    return {thing for thing in things if not holds(thing)}


def is_over(expires_at: float | None) -> bool:
    """Whether a time, in Unix seconds, has come; None never does."""
    return expires_at is not None and expires_at <= time.time()
