"""What the site of `oidc_toolkit` answers; imported by its process alone."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt
from oauth2_provider.models import Application
from oauth2_provider.oauth2_validators import OAuth2Validator


class Claims(OAuth2Validator):  # type: ignore[misc]
    """It vouches for the addresses of its people."""

    def get_additional_claims(self, request: Any) -> dict[str, Any]:
        return {"email": request.user.email, "email_verified": True}


@csrf_exempt
def addresses(request: HttpRequest) -> HttpResponse:
    """Where the one client's browsers may be sent back to: what an operator would type into a form."""
    Application.objects.update(redirect_uris=request.POST["addresses"])
    return HttpResponse()


urlpatterns = [
    path("sign-in", LoginView.as_view()),
    path("addresses", addresses),
    path("", include("oauth2_provider.urls")),
]
