from __future__ import annotations

from django.urls import path

from billing.console import usage

urlpatterns = [
    path("", usage.overview, name="console-overview"),
    path("usage", usage.usage, name="console-usage"),
    path("invoices", usage.overview, name="console-invoices"),
]
