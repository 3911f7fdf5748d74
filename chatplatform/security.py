"""Security headers, and protection against forged requests.

The headers are strict on tenants' hosts; the staff host's admin theme needs two exceptions, kept there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.middleware.csrf import CsrfViewMiddleware

STRICT = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# django-unfold builds functions from strings (Alpine.js) and sets style attributes; see docs/admin.md.
STAFF = STRICT.replace("script-src 'self'", "script-src 'self' 'unsafe-eval'").replace(
    "style-src 'self'", "style-src 'self' 'unsafe-inline'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class SecureHeaders:
    """Django middleware, asynchronous: sets the headers on every answer that passes."""

    async_capable, sync_capable = True, False

    def __init__(self, get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]]) -> None:
        self.get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = await self.get_response(request)
        staff = getattr(request, "urlconf", None) is not None and not _is_api(request)
        response.headers.setdefault("Content-Security-Policy", STAFF if staff else STRICT)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        if settings.SECURE_HSTS_SECONDS:
            response.headers["Strict-Transport-Security"] = (
                f"max-age={settings.SECURE_HSTS_SECONDS}; includeSubDomains"
            )
        return response


class CsrfForPages:
    """Django's CSRF protection, without the three threads it would take for it: it touches no database.

    Not for the API: an Authorization header cannot be forged, and a visitor's cookie is checked where it is taken.
    """

    async_capable, sync_capable = True, False

    def __init__(self, get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]]) -> None:
        self.get_response = get_response
        self.django: Any = CsrfViewMiddleware(get_response)
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if _is_api(request):
            return await self.get_response(request)
        self.django.process_request(request)
        response: HttpResponseBase = self.django.process_response(request, await self.get_response(request))
        return response

    async def process_view(self, request: HttpRequest, *view: Any) -> HttpResponseBase | None:
        refusal: HttpResponseBase | None = (
            None if _is_api(request) else self.django.process_view(request, *view)
        )
        return refusal


def _is_api(request: HttpRequest) -> bool:
    return request.path.startswith("/api/")


secure_headers = SecureHeaders
