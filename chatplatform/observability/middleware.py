"""Gives each request an id, which its logs, its answer and its errors carry."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable

import structlog
import uuid_utils
from asgiref.sync import markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from chatplatform.observability.context import client_address, request_id
from chatplatform.observability.metrics import REQUESTS

log = structlog.get_logger("chatplatform.request")
ACCEPTABLE = re.compile(r"[A-Za-z0-9._-]{8,64}")
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
LONGEST_ADDRESS = 45
QUIET = {"/livez", "/readyz", "/metrics"}


class RequestContext:
    """Django middleware, asynchronous: sets the request id, logs method, path, status and duration in ms."""

    async_capable, sync_capable = True, False

    def __init__(self, get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]]) -> None:
        self.get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        # Not `request.headers`, here and wherever each request passes: Django would make them all up out of META.
        given = request.META.get("HTTP_X_REQUEST_ID", "")
        identity = given if ACCEPTABLE.fullmatch(given) else uuid_utils.uuid7().hex
        token = request_id.set(identity)
        came_from = client_address.set(address_of(request))
        started = time.perf_counter()
        try:
            response = await self.get_response(request)
            response["X-Request-ID"] = identity
            if request.path not in QUIET:
                _note(request, response, time.perf_counter() - started)
            return response
        finally:
            request_id.reset(token)
            client_address.reset(came_from)


def address_of(request: HttpRequest) -> str | None:
    """Where a request came from; behind proxies, what the outermost of ours has written down."""
    proxies: int = settings.PROXIES
    forwarded: str = request.META.get("HTTP_X_FORWARDED_FOR", "")
    written = [one.strip() for one in forwarded.split(",") if one.strip()]
    if proxies and len(written) >= proxies:
        return written[-proxies][:LONGEST_ADDRESS]
    return request.META.get("REMOTE_ADDR")


def _note(request: HttpRequest, response: HttpResponseBase, seconds: float) -> None:
    method = str(request.method)
    REQUESTS.labels(method if method in METHODS else "other", str(response.status_code)).observe(seconds)
    log.info(
        "request",
        method=method,
        path=request.path,
        status=response.status_code,
        ms=round(seconds * 1000, 1),
    )


request_context = RequestContext
