from __future__ import annotations

from django.urls import path

from tenants.api import credentials, views

ONE = "tenants/<slug:slug>"
KEY, ISSUER = f"{ONE}/api-keys/<str:key_id>", f"{ONE}/token-issuers/<uuid:issuer_id>"

urlpatterns = [
    path("tokens", credentials.Tokens.as_view(), name="tokens"),
    path("tenants", views.Tenants.as_view(), name="tenants"),
    path(ONE, views.OneTenant.as_view(), name="tenant"),
    path(f"{ONE}/config", views.Configuration.as_view(), name="tenant-config"),
    path(f"{ONE}/token-issuers", credentials.TokenIssuers.as_view(), name="token-issuers"),
    path(ISSUER, credentials.OneTokenIssuer.as_view(), name="token-issuer"),
    path(f"{ONE}/api-keys", credentials.ApiKeys.as_view(), name="api-keys"),
    path(KEY, credentials.OneApiKey.as_view(), name="api-key"),
    path(f"{KEY}/rotate", credentials.RotateApiKey.as_view(), name="api-key-rotate"),
]
