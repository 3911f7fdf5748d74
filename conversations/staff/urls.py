"""Below /admin/conversations/ on the platform's host."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from conversations.staff import erasing, views

app_name = "staff"
urlpatterns = [
    path("", admin.site.admin_view(views.tenants), name="tenants"),
    path("<slug:slug>/", admin.site.admin_view(views.conversations), name="conversations"),
    path(
        "<slug:slug>/<uuid:conversation_id>/erase-contact/",
        admin.site.admin_view(erasing.erase_contact),
        name="erase-contact",
    ),
    path(
        "<slug:slug>/<uuid:conversation_id>/", admin.site.admin_view(views.conversation), name="conversation"
    ),
]
