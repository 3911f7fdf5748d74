"""What is held for a tenant's replies. Whether a hold is dead, only the replies know: so the page lives here."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse

from billing import selectors
from billing.staff.views import looked_into, page
from chatplatform import tenancy

SHOWN = 200


def show(request: HttpRequest, slug: str) -> HttpResponse:
    """The oldest, with their age."""
    tenant = looked_into(request, slug)
    with tenancy.staff_view(tenant.ref):
        found, held = list(selectors.holds()[:SHOWN]), selectors.held()
    title = f"Holds of {tenant.name}"
    return page(request, tenant, "holds", title=title, holds=found, held=held)
