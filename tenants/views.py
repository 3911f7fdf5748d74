"""Pages and documents about who is who: the platform's public keys, and signing in to a tenant's chat page."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from chatplatform.api.problem import Code, Problem, as_problem
from chatplatform.api.views import page
from tenants.auth import authentication, contacts, origins
from tenants.auth.awaiting import with_keys
from tenants.auth.contacts import Session
from tenants.selectors import TenantState
from tenants.services import signing_keys


@require_safe
def jwks(request: HttpRequest) -> HttpResponse:
    """The keys that the platform's tokens are checked with: next, current and previous (RFC 7517)."""
    response = JsonResponse(signing_keys.published().document)
    response.headers["Cache-Control"] = f"public, max-age={signing_keys.CACHED_FOR}"
    response.headers["Access-Control-Allow-Origin"] = "*"
    return response


# Not by a CSRF token, which another site cannot have: by the Origin, which browsers send and pages cannot forge.
@csrf_exempt
@require_POST
def sign_in(request: HttpRequest) -> HttpResponse:
    """A form with a `token`, from a page of the tenant's: the chat page opens for the end user whose token it is."""
    tenant: TenantState | None = getattr(request, "tenant", None)
    if tenant is None:
        return page(request, Problem(Code.NOT_FOUND, "There is nothing at this address."))
    try:
        return _signed_in(request, tenant)
    except Problem as problem:
        return page(request, as_problem(problem))


def _signed_in(request: HttpRequest, tenant: TenantState) -> HttpResponse:
    origin = request.headers.get("Origin", "")
    if not origins.is_allowed(origin, tenant):
        # Or any site could sign its visitors in as somebody else, and read what they write there.
        raise Problem(Code.ORIGIN_NOT_ALLOWED, "This page may not sign anybody in here.")
    shown = request.POST.get("token", "")
    principal = with_keys(lambda: authentication.end_user(shown, None, tenant))
    assert principal.contact_id is not None, "an end user is a contact"
    response = HttpResponseRedirect("/", headers={"Cache-Control": "no-store"}, status=303)
    session = Session(principal.contact_id, principal.rests_on, principal.expires_at)
    contacts.write(response, session, tenant.ref)
    return response
