"""Signing in by a provider of the tenant's, and letting an account there stand for who is signed in.

What the browser carries meanwhile is in a signed cookie of its own, good for ten minutes, on this host, for one answer.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import reverse

from chatplatform.api.problem import Code, Problem
from tenants.auth import members as cookies
from tenants.auth.members import Member
from tenants.auth.passwords import Tries
from tenants.console.account import TAB
from tenants.console.frame import Visit, go, open_page, page, show, to_door, wanted
from tenants.console.sign_in import SignInForm, end_entrance
from tenants.selectors import TenantState
from tenants.services import access, oidc, sign_in_providers
from tenants.services.oidc import Journey, Person, ProviderFailed

COOKIE = f"{settings.COOKIE_PREFIX}cp_journey"
LASTS = 600  # s


@open_page
def begin(request: HttpRequest, tenant: TenantState, provider_id: UUID) -> HttpResponseBase:
    """To the provider."""
    return _leave(request, tenant, provider_id, {"next": wanted(request)})


@page(None)
def begin_link(visit: Visit, provider_id: UUID) -> HttpResponseBase:
    """To the provider, to let the account there stand for who is signed in here."""
    if not access.is_recent(visit.member):
        return to_door(visit.request, "console-sign-in")
    return _leave(visit.request, visit.tenant, provider_id, {"link": str(visit.member.session_id)})


@open_page
def finish(request: HttpRequest, tenant: TenantState, provider_id: UUID) -> HttpResponseBase:
    """Back from the provider."""
    try:
        response = _arrive(request, tenant, provider_id)
    except Problem as problem:
        response = _at_the_door(request, tenant, problem)
    response.delete_cookie(COOKIE, path="/", samesite="Lax")
    response.cookies[COOKIE]["secure"] = settings.SESSION_COOKIE_SECURE
    return response


@page(None, ("POST",))
def link(visit: Visit, provider_id: UUID) -> HttpResponseBase:
    """The account that was shown stands for the member from now on."""
    provider = sign_in_providers.one(visit.tenant.ref, provider_id)
    try:
        said = signing.loads(visit.request.POST.get("person", ""), salt=salt(visit.member), max_age=LASTS)
        sign_in_providers.link(visit.member.membership_id, provider, Person(*said))
    except (signing.BadSignature, Problem):
        return go(TAB, done="not-linked")
    return go(TAB, done="linked")


@page(None, ("POST",))
def unlink(visit: Visit, provider_id: UUID) -> HttpResponseBase:
    sign_in_providers.unlink(access.access_identity(visit.member, provider_id))
    return go(TAB, done="unlinked")


def _leave(
    request: HttpRequest, tenant: TenantState, provider_id: UUID, purpose: dict[str, str]
) -> HttpResponseBase:
    provider = sign_in_providers.one(tenant.ref, provider_id)
    try:
        address, journey = oidc.begin(provider, _back(request, provider_id))
    except ProviderFailed:
        unreachable = Problem(Code.PROVIDER_UNAVAILABLE, f"{provider.name} cannot be reached at the moment.")
        return _at_the_door(request, tenant, unreachable)
    carried = {"provider": str(provider_id), **journey.as_dict(), **purpose}
    response = HttpResponseRedirect(address)
    response.set_cookie(
        COOKIE,
        signing.dumps(carried, salt=salt(tenant)),
        max_age=LASTS,
        path="/",
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )
    return response


def _arrive(request: HttpRequest, tenant: TenantState, provider_id: UUID) -> HttpResponseBase:
    provider = sign_in_providers.one(tenant.ref, provider_id)
    carried = _carried(request, tenant, provider_id)
    journey = Journey(carried["state"], carried["nonce"], carried["verifier"])
    tries = Tries(tenant.ref.id, None)
    tries.take()
    person = oidc.finish(provider, journey, request.GET.dict(), _back(request, provider_id))
    tries.succeeded()
    entrance = cookies.entrance_of(request, tenant)
    if "link" in carried:
        member = entrance.member if entrance else None
        if member is None or str(member.session_id) != carried["link"]:
            raise Problem(Code.NOT_AUTHENTICATED, "You were signed out meanwhile. Sign in, then try again.")
        sealed = signing.dumps([person.issuer, person.subject, person.email], salt=salt(member))
        return show(request, tenant, "link", provider=provider, person=person, sealed=sealed)
    token = sign_in_providers.sign_in(provider, person, agent=request.headers.get("User-Agent", ""))
    end_entrance(entrance)
    response = HttpResponseRedirect(carried["next"])
    cookies.write(response, token)
    return response


def _carried(request: HttpRequest, tenant: TenantState, provider_id: UUID) -> dict[str, Any]:
    try:
        carried: dict[str, Any] = signing.loads(
            request.COOKIES.get(COOKIE, ""), salt=salt(tenant), max_age=LASTS
        )
    except signing.BadSignature:
        carried = {}
    if carried.get("provider") != str(provider_id):
        raise Problem(Code.NOT_AUTHENTICATED, "This sign-in was begun elsewhere, or too long ago. Try again.")
    return carried


def _at_the_door(request: HttpRequest, tenant: TenantState, problem: Problem) -> HttpResponseBase:
    shown = {
        "form": SignInForm(),
        "action": reverse("console-sign-in"),
        "notice": problem.detail,
        "providers": sign_in_providers.of_tenant(tenant.ref),
    }
    return show(request, tenant, "sign_in", status=problem.code.status, **shown)


def _back(request: HttpRequest, provider_id: UUID) -> str:
    """Where a provider sends browsers back to; it has to know this address."""
    path = reverse("console-provider-answer", args=[provider_id])
    return f"{settings.PUBLIC_SCHEME}://{request.get_host()}{path}"


def salt(whose: TenantState | Member) -> str:
    """What is signed here is good for one tenant, or for one session."""
    id = whose.ref.id if isinstance(whose, TenantState) else whose.session_id
    return f"chatplatform.provider-journey.{id}"
