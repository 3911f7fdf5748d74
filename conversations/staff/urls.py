"""Below /admin/conversations/ on the platform's host."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from conversations.staff import holds, views

app_name = "staff"
urlpatterns = [
    path("", admin.site.admin_view(views.tenants), name="tenants"),
    path("<slug:slug>/", admin.site.admin_view(views.conversations), name="conversations"),
    path("<slug:slug>/holds/", admin.site.admin_view(holds.show), name="holds"),
    path("<slug:slug>/holds/return/", admin.site.admin_view(holds.return_dead), name="return-holds"),
    path(
        "<slug:slug>/<uuid:conversation_id>/", admin.site.admin_view(views.conversation), name="conversation"
    ),
]
