"""Below /admin/spending/ on the platform's host, beside the pages of the billing app."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from conversations.staff import holds

app_name = "holds"
urlpatterns = [
    path("<slug:slug>/holds/", admin.site.admin_view(holds.show), name="show"),
    path("<slug:slug>/holds/return/", admin.site.admin_view(holds.return_dead), name="return"),
]
