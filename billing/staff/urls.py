"""Below /admin/spending/ on the platform's host."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from billing.staff import views

app_name = "spending"
urlpatterns = [
    path("<slug:slug>/", admin.site.admin_view(views.spend), name="spend"),
    path("<slug:slug>/ledger/", admin.site.admin_view(views.ledger), name="ledger"),
    path("<slug:slug>/ledger.csv", admin.site.admin_view(views.ledger_csv), name="ledger-csv"),
]
