"""URLs of the platform's host: the staff console, the API, metrics."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView, TemplateView

from billing import views as billing
from chatplatform import health, urls_api

handler403 = "chatplatform.api.views.not_allowed"
handler404 = "chatplatform.api.views.not_found"
handler500 = "chatplatform.api.views.server_error"

urlpatterns = [
    path("admin", RedirectView.as_view(url="/admin/")),
    path("admin/conversations/", include("conversations.staff.urls")),
    path("admin/spending/", include("billing.staff.urls")),
    path("admin/spending/", include("conversations.staff.urls_spending")),
    path("admin/second-factor/", include("tenants.admin.second_factor")),
    path("admin/", admin.site.urls),
    path("api/v1/", include(urls_api)),
    *urls_api.probes,
    path("metrics", health.metrics),
    path("webhooks/stripe", billing.webhook),
    path("", TemplateView.as_view(template_name="landing.html"), name="landing"),
]
