"""A tenant's spending this month, and its ledger. A look is logged before it happens."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.utils.http import content_disposition_header

from billing import asked, months, selectors
from billing.chart import chart
from billing.staff.forms import LedgerForm
from chatplatform import tenancy
from tenants import audit
from tenants.admin.pages import tenant_context
from tenants.models import Tenant, User
from tenants.selectors import state
from tenants.services.migration import WITH_SCHEMA
from tenants.vocabulary import AuditAction

PERMISSION = "billing.view_ledgerentry"


def spend(request: HttpRequest, slug: str) -> HttpResponse:
    """A month by day and model, and the budgets."""
    tenant = looked_into(request, slug)
    month = asked.month(request)
    first, last = selectors.bounds(month)
    of_tenant = state(tenant.pk)
    with tenancy.staff_view(tenant.ref):
        rows = selectors.by_day_and_model(first, last)
        meters = selectors.meters(of_tenant)
        held = selectors.held()
    total = selectors.total(rows)
    measure = asked.measure(request, total)
    return page(
        request,
        tenant,
        "spend",
        title=f"Spending of {tenant.name}",
        month=month,
        last=last,
        before=months.before(month),
        after=months.after(month) if month < asked.this_month() else None,
        is_now=month == asked.this_month(),
        meters=(
            ("This month", meters.month, False),
            ("Today", meters.day, False),
            ("Tokens this month", meters.tokens, True),
        ),
        held=held,
        rows=rows,
        models=selectors.by_model(rows),
        total=total,
        measure=measure,
        chart=chart(rows, first, months.last_day(month), measure),
    )


def ledger(request: HttpRequest, slug: str) -> HttpResponse:
    """The entries that the form asks for, and what they come to."""
    tenant = looked_into(request, slug)
    form = LedgerForm(request.GET, timezone.now().date())
    wanted = form.wanted()
    with tenancy.staff_view(tenant.ref):
        shown = selectors.ledger_page(wanted)
        models = selectors.used_models(wanted.first, wanted.last)
    return page(
        request,
        tenant,
        "ledger",
        title=f"Ledger of {tenant.name}",
        form=form,
        wanted=wanted,
        ledger=shown,
        providers=sorted({provider for provider, _ in models}),
        models=sorted({name for _, name in models}),
        query=_query(request),
        older=_query(request, before=shown.older) if shown.older else None,
        newer=_query(request, after=shown.newer) if shown.newer else None,
    )


def ledger_csv(request: HttpRequest, slug: str) -> HttpResponseBase:
    """All of them as a table."""
    tenant = looked_into(request, slug)
    wanted = LedgerForm(request.GET, timezone.now().date()).wanted()
    name = f"ledger-{slug}-{wanted.first:%Y-%m-%d}-{wanted.last:%Y-%m-%d}.csv"
    return StreamingHttpResponse(
        selectors.ledger_csv(wanted, partial(tenancy.staff_view, tenant.ref)),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": content_disposition_header(True, name), "Cache-Control": "no-store"},
    )


def looked_into(request: HttpRequest, slug: str) -> Tenant:
    """The tenant, once the look is logged. Raises PermissionDenied, Http404."""
    user = request.user
    if not isinstance(user, User) or not user.has_perm(PERMISSION):
        raise PermissionDenied
    tenant = get_object_or_404(Tenant, slug=slug)
    if tenant.status not in WITH_SCHEMA:
        raise Http404
    audit.record(AuditAction.SPENDING_READ, tenant=tenant.id)
    return tenant


def page(request: HttpRequest, tenant: Tenant, template: str, **context: Any) -> HttpResponse:
    """A page below a tenant's head, under its tab for spending."""
    frame = {**admin.site.each_context(request), **tenant_context(request, tenant), "tab": "spend"}
    return render(request, f"billing/{template}.html", {**frame, **context})


def _query(request: HttpRequest, **cursor: object) -> str:
    """The same filters in an address, at another page."""
    query = request.GET.copy()
    query.pop("before", None)
    query.pop("after", None)
    query.update({name: str(value) for name, value in cursor.items()})
    return f"?{query.urlencode()}"
