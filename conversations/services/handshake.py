"""Who may open a WebSocket: credential, tenant, origin and conversation, checked before the handshake ends."""

from __future__ import annotations

from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

from chatplatform import draining, jobs, tenancy
from chatplatform.api.problem import Code, Problem, shutting_down
from conversations.services import access, tickets
from conversations.services.tickets import Ticket
from tenants import selectors
from tenants.auth import authentication, origins, standing
from tenants.auth.awaiting import with_keys_async
from tenants.auth.principal import Principal
from tenants.models import Tenant
from tenants.selectors import TenantState
from tenants.vocabulary import Scope


async def admit(scope: dict[str, Any], conversation_id: UUID) -> Principal:
    """The principal of a WebSocket's ASGI scope, if it may join the conversation.

    Raises Problem: 401, 403 or 404 as CONTRACT §6 says, 503 while this process takes its leave.
    """
    check_not_leaving()
    headers = {name.decode("latin1").lower(): value.decode("latin1") for name, value in scope["headers"]}
    shown = parse_qs(scope.get("query_string", b"").decode("latin1")).get("ticket", [""])[0]
    ticket = await tickets.redeem(shown) if shown else None
    if shown and (ticket is None or ticket.conversation_id != conversation_id):
        raise Problem(Code.NOT_AUTHENTICATED, "The ticket is used up, expired or for another conversation.")
    return await with_keys_async(lambda: jobs.in_thread(_admit, headers, ticket, conversation_id))


def check_not_leaving() -> None:
    """Raises Problem `shutting_down` while this process takes nothing new."""
    if draining.is_leaving():
        raise shutting_down()


def _admit(headers: dict[str, str], ticket: Ticket | None, conversation_id: UUID) -> Principal:
    host = _host_tenant(headers.get("host", ""))
    principal = _of_ticket(ticket, host) if ticket else _of_headers(headers, host)
    if principal is None:
        raise Problem(Code.NOT_AUTHENTICATED)
    if principal.tenant is None:
        raise Problem(Code.TENANT_REQUIRED, "A platform key names its tenant in X-Tenant-ID.")
    if not principal.allows(Scope.CHAT):
        raise Problem(Code.NOT_ALLOWED, "This needs the scope 'chat'.")
    _check_origin(headers.get("origin"), principal.tenant, ticket.origin if ticket else None)
    with tenancy.in_tenant(principal.tenant.ref):
        access.access_conversation(principal, conversation_id)
    return principal


def _host_tenant(raw: str) -> TenantState | None:
    tenant_id = selectors.tenant_id_for_host(selectors.host_name(raw)) if raw else None
    try:
        return selectors.state(tenant_id) if tenant_id else None
    except Tenant.DoesNotExist:
        return None


def _of_ticket(ticket: Ticket, host: TenantState | None) -> Principal:
    try:
        tenant = selectors.state(ticket.tenant_id)
    except Tenant.DoesNotExist as error:
        raise Problem(Code.NOT_AUTHENTICATED) from error
    if host is not None and host.ref.id != tenant.ref.id:
        raise Problem(Code.TENANT_MISMATCH)
    selectors.check_served(tenant)
    if standing.is_over(ticket.expires_at) or standing.gone(ticket.rests_on):
        raise Problem(Code.NOT_AUTHENTICATED, "What the ticket was issued for was revoked, or has expired.")
    return Principal(
        ticket.credential,
        frozenset({Scope.CHAT}),
        tenant,
        contact_id=ticket.contact_id,
        rests_on=ticket.rests_on,
        expires_at=ticket.expires_at,
    )


def _of_headers(headers: dict[str, str], host: TenantState | None) -> Principal | None:
    if "authorization" in headers:
        return authentication.bearer(headers["authorization"], headers.get("x-tenant-id"), host)
    # A cookie works on the tenant's own hosts alone, and only for pages from there: browsers always send Origin.
    if host is None or "origin" not in headers:
        return None
    try:
        cookies = {name: morsel.value for name, morsel in SimpleCookie(headers.get("cookie", "")).items()}
    except CookieError:
        return None
    return authentication.visitor(cookies, host)


def _check_origin(origin: str | None, tenant: TenantState, ticket_origin: str | None) -> None:
    """`Origin`, where sent, is one of the tenant's hosts or widget origins.

    A ticket that names an origin is good for that one alone, wherever it is.
    """
    if ticket_origin is not None:
        if origin is None or origins.plain(origin) != origins.plain(ticket_origin):
            raise Problem(Code.ORIGIN_NOT_ALLOWED)
    elif origin is not None and not origins.is_allowed(origin, tenant):
        raise Problem(Code.ORIGIN_NOT_ALLOWED)
