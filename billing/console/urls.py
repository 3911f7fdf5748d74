from __future__ import annotations

from django.urls import path

from billing.console import invoices, usage

INVOICE = "invoices/<uuid:invoice_id>"

urlpatterns = [
    path("", usage.overview, name="console-overview"),
    path("usage", usage.usage, name="console-usage"),
    path("invoices", invoices.listing, name="console-invoices"),
    path(INVOICE, invoices.one, name="console-invoice"),
    path(f"{INVOICE}.csv", invoices.as_csv, name="console-invoice-csv"),
    path(f"{INVOICE}.json", invoices.as_json, name="console-invoice-json"),
    path(f"{INVOICE}/calls/<uuid:line_id>.csv", invoices.calls, name="console-invoice-calls"),
]
