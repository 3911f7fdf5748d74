from __future__ import annotations

from django.urls import path

from tenants.api import views

urlpatterns = [
    path("tenants", views.Tenants.as_view(), name="tenants"),
    path("tenants/<slug:slug>", views.OneTenant.as_view(), name="tenant"),
    path("tenants/<slug:slug>/config", views.Configuration.as_view(), name="tenant-config"),
]
