"""The tenant's invoices: the list, one to read and print, and downloads."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import content_disposition_header

from billing import invoices
from billing.access import access_calls, access_invoice, access_invoices
from tenants.console.frame import Visit, page
from tenants.vocabulary import Action


@page(Action.VIEW_INVOICES)
def listing(visit: Visit) -> HttpResponseBase:
    """All of them, and credit notes, the newest first."""
    return visit.render("invoices", "console-invoices", invoices=access_invoices(visit.member))


@page(Action.VIEW_INVOICES)
def one(visit: Visit, invoice_id: UUID) -> HttpResponseBase:
    """A page that can be printed."""
    shown = invoices.page(
        access_invoice(visit.member, invoice_id),
        csv_url=reverse("console-invoice-csv", args=[invoice_id]),
        json_url=reverse("console-invoice-json", args=[invoice_id]),
        calls_url=lambda line: reverse("console-invoice-calls", args=[invoice_id, line.pk]),
    )
    return render(visit.request, "billing/document.html", {**shown, "back": reverse("console-invoices")})


@page(Action.VIEW_INVOICES)
def as_csv(visit: Visit, invoice_id: UUID) -> HttpResponseBase:
    """Its lines as a table."""
    document = access_invoice(visit.member, invoice_id)
    return HttpResponse(
        invoices.as_csv(document),
        content_type="text/csv; charset=utf-8",
        headers=_attached(f"{document.invoice.number}.csv"),
    )


@page(Action.VIEW_INVOICES)
def as_json(visit: Visit, invoice_id: UUID) -> HttpResponseBase:
    """The document for programs."""
    document = access_invoice(visit.member, invoice_id)
    return JsonResponse(invoices.as_json(document), headers=_attached(f"{document.invoice.number}.json"))


@page(Action.VIEW_INVOICES)
def calls(visit: Visit, invoice_id: UUID, line_id: UUID) -> HttpResponseBase:
    """Every call behind a line as a table."""
    name, pieces = access_calls(visit.member, invoice_id, line_id)
    return StreamingHttpResponse(
        pieces, content_type="text/csv; charset=utf-8", headers=_attached(f"{name}.csv")
    )


def _attached(name: str) -> dict[str, str]:
    return {"Content-Disposition": content_disposition_header(True, name)}
