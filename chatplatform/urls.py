"""URLs of tenants' hosts and of hosts that carry only the API."""

from __future__ import annotations

from django.urls import include, path
from django.views.generic import RedirectView

from chatplatform import urls_api
from conversations import views
from tenants.views import sign_in

handler404 = "chatplatform.api.views.not_found"
handler500 = "chatplatform.api.views.server_error"

urlpatterns = [
    path("api/v1/", include(urls_api)),
    *urls_api.probes,
    path("", views.home, name="home"),
    path("session", sign_in, name="sign-in"),
    path("console", RedirectView.as_view(url="/console/")),
    path("console/", include("tenants.console.urls")),
    path("console/", include("billing.console.urls")),
    path("c/new", views.new, name="new-conversation"),
    path("c/<uuid:conversation_id>", views.conversation, name="conversation-page"),
]
