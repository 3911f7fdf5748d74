"""What is held for a tenant's replies. Whether a hold is dead, only the replies know: so the page lives here."""

from __future__ import annotations

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import reverse

from billing import selectors
from billing.staff.views import looked_into, page
from chatplatform import tenancy
from conversations.services import holds
from tenants import audit
from tenants.vocabulary import AuditAction

SHOWN = 200
RETURN = "billing.delete_hold"


def show(request: HttpRequest, slug: str) -> HttpResponse:
    """The oldest, with their age."""
    tenant = looked_into(request, slug)
    with tenancy.staff_view(tenant.ref):
        found, held = list(selectors.holds()[:SHOWN]), selectors.held()
    may_return = bool(request.user.has_perm(RETURN))
    title = f"Holds of {tenant.name}"
    return page(request, tenant, "holds", title=title, holds=found, held=held, may_return=may_return)


def return_dead(request: HttpRequest, slug: str) -> HttpResponseBase:
    """Give back what died, now instead of at the next look."""
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    if not request.user.has_perm(RETURN):
        raise PermissionDenied
    tenant = looked_into(request, slug)
    with tenancy.in_tenant(tenant.ref):
        returned = holds.return_dead()
    if returned:
        audit.record(AuditAction.HOLDS_RETURNED, tenant=tenant.pk, holds=returned)
    said = f"{returned} given back." if returned else "Nothing to give back: no hold is dead."
    messages.success(request, said)
    return HttpResponseRedirect(reverse("holds:show", args=[slug]))
