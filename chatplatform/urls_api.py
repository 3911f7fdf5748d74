"""The API, the same on every host, and the probes."""

from __future__ import annotations

from typing import Any

from django.urls import include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from chatplatform import health
from conversations.api import urls as conversations
from tenants.views import jwks

app_name = "api"
schema: dict[str, Any] = {"authentication_classes": [], "permission_classes": []}

urlpatterns = [
    *conversations.urlpatterns,  # first, and not a level deeper: most requests are for these
    path("", include("tenants.api.urls")),
    path("", include("billing.api.urls")),
    path("schema", SpectacularAPIView.as_view(**schema), name="schema"),
    path(
        "docs",
        SpectacularSwaggerSplitView.as_view(template_name="api/docs.html", url_name="api:schema", **schema),
        name="docs",
    ),
]
probes = [
    path(".well-known/jwks.json", jwks),
    path("favicon.ico", RedirectView.as_view(url="/static/chat/icon.svg")),
    path("livez", health.livez),
    path("readyz", health.readyz),
]
