"""Which tenant, or the platform, a host name stands for; and sessions for staff alone."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any

from asgiref.sync import markcoroutinefunction, sync_to_async
from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from chatplatform import tenancy
from chatplatform.api import views as answers
from chatplatform.api.problem import Code, Problem
from chatplatform.observability.context import acting
from tenants import selectors
from tenants.auth.staff_proof import AskForSecondFactor
from tenants.models import Tenant
from tenants.selectors import TenantState
from tenants.vocabulary import ActorKind, TenantStatus

GetResponse = Callable[[HttpRequest], Awaitable[HttpResponseBase]]
PROBES = ("/livez", "/readyz")
ANY_HOST = ("/api/v1/", "/static/", "/.well-known/jwks.json", *PROBES)
PLATFORM_URLS = "chatplatform.urls_public"


def is_platform(host: str) -> bool:
    """Whether a host name is the staff console's."""
    return host == settings.PLATFORM_DOMAIN


async def tenant_of_host(host: str) -> TenantState | None:
    """The tenant behind a host name, from what this process keeps or from the database."""
    known, tenant_id = selectors.cached_host(host)
    if not known:
        tenant_id = await sync_to_async(selectors.tenant_id_for_host)(host)
    if tenant_id is None:
        return None
    try:
        return selectors.cached_state(tenant_id) or await sync_to_async(selectors.state)(tenant_id)
    except Tenant.DoesNotExist:
        return None


class ResolveHost:
    """Sets `request.tenant` and enters its context, or the platform's; other hosts get the API and probes only."""

    async_capable, sync_capable = True, False

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request.tenant = None  # type: ignore[attr-defined]
        if request.path in PROBES:
            return await self.get_response(request)
        try:
            return await self._resolve(request, selectors.host_name(request.META.get("HTTP_HOST", "")))
        except Exception as error:  # above the views: nobody else turns it into an answer
            return answers.page_of(request, error)

    async def _resolve(self, request: HttpRequest, host: str) -> HttpResponseBase:
        if is_platform(host):
            request.urlconf = PLATFORM_URLS
            with tenancy.in_platform():
                return await self.get_response(request)
        tenant = await tenant_of_host(host) if host and not _is_address(host) else None
        if tenant is not None:
            return await self._in_tenant(request, tenant)
        if request.path.startswith(ANY_HOST):
            return await self.get_response(request)
        return answers.page(request, Problem(Code.NOT_FOUND, "There is nothing at this address."))

    async def _in_tenant(self, request: HttpRequest, tenant: TenantState) -> HttpResponseBase:
        request.tenant = tenant  # type: ignore[attr-defined]
        if not request.path.startswith(ANY_HOST):
            if tenant.status == TenantStatus.SUSPENDED:
                return answers.page(request, Problem(Code.TENANT_SUSPENDED))
            if tenant.status != TenantStatus.ACTIVE:
                return answers.page(request, Problem(Code.NOT_FOUND, "There is nothing at this address yet."))
        with tenancy.in_tenant(tenant.ref):
            return await self.get_response(request)


@lru_cache(1024)
def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


class StaffSession:
    """Sessions, users and messages, on the staff's host only: tenants' hosts have no Django session at all."""

    async_capable, sync_capable = True, False

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        chain: Any = get_response
        for layer in (MessageMiddleware, AskForSecondFactor, AuthenticationMiddleware, SessionMiddleware):
            chain = layer(chain)
        self.with_session: GetResponse = chain
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        staff = getattr(request, "urlconf", None) == PLATFORM_URLS and not request.path.startswith(ANY_HOST)
        if not staff:
            return await self.get_response(request)
        with acting(lambda: _person(request)):
            return await self.with_session(request)


def _person(request: HttpRequest) -> tuple[ActorKind, str]:
    """Who is signed in at the console, for the audit log."""
    user = getattr(request, "user", None)
    return (ActorKind.STAFF, str(user.pk)) if user and user.pk else (ActorKind.NOBODY, "")


resolve_host = ResolveHost
