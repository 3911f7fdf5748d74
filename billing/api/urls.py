from __future__ import annotations

from django.urls import path

from billing.api import views

urlpatterns = [
    path("usage/daily", views.DailyUsage.as_view(), name="daily-usage"),
    path("invoices", views.Invoices.as_view(), name="invoices"),
    path("invoices/<uuid:invoice_id>", views.OneInvoice.as_view(), name="invoice"),
]
