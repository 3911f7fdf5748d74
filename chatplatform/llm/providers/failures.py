"""From what an SDK or its transport raises to our own error classes."""

from __future__ import annotations

import asyncio
import email.utils
import re
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from chatplatform.llm.errors import (
    AuthenticationFailed,
    BadRequest,
    ConnectionLost,
    ContentFiltered,
    MalformedResponse,
    Overloaded,
    ProviderError,
    ProviderTimeout,
    RateLimited,
    ServerError,
)
from chatplatform.llm.types import ModelRef

# A provider's error code is only repeated if it looks like one, never free text.
_CODE = re.compile(r"[a-z][a-z0-9_.-]{0,63}", re.IGNORECASE)
_QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_error"})
_FILTER_CODES = frozenset({"content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"})
_BY_CODE: dict[str, type[ProviderError]] = {
    "overloaded_error": Overloaded,
    "overloaded": Overloaded,
    "server_overloaded": Overloaded,
    "rate_limit_error": RateLimited,
    "rate_limit_exceeded": RateLimited,
    "insufficient_quota": RateLimited,
    "invalid_request_error": BadRequest,
    "context_length_exceeded": BadRequest,
    "not_found_error": BadRequest,
    "authentication_error": AuthenticationFailed,
    "permission_error": AuthenticationFailed,
    "timeout_error": ProviderTimeout,
}
_BY_STATUS: dict[int, type[ProviderError]] = {
    401: AuthenticationFailed,
    403: AuthenticationFailed,
    408: ProviderTimeout,
    409: ServerError,
    429: RateLimited,
    503: Overloaded,
    504: ProviderTimeout,
    529: Overloaded,
}


@lru_cache(maxsize=1)
def transport_errors() -> tuple[type[Exception], ...]:
    """What reading a body may raise. Imported late: the SDK's transport is slow to load."""
    import aiohttp
    import httpx2

    return (httpx2.TransportError, httpx2.StreamError, httpx2.DecodingError, aiohttp.ClientError)


def from_status(status: int, headers: Mapping[str, str], body: object, ref: ModelRef) -> ProviderError:
    """The error for an HTTP status that is not 200. ``body`` is the decoded JSON, or anything."""
    codes = _codes(body)
    known = next((code for code in codes if _CODE.fullmatch(code)), "")
    quota = not _QUOTA_CODES.isdisjoint(codes)
    return _class_for(status, codes)(
        "redirects are not followed" if 300 <= status < 400 else known,
        provider=ref.provider,
        model=ref.name,
        status=status,
        retry_after=_retry_after(headers),
        retryable=False if quota or 300 <= status < 400 else None,
    )


def _class_for(status: int, codes: tuple[str, ...]) -> type[ProviderError]:
    if not _FILTER_CODES.isdisjoint(codes):
        return ContentFiltered
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status >= 500:
        return ServerError
    return BadRequest if status >= 400 else MalformedResponse


def from_error_event(body: object, ref: ModelRef) -> ProviderError:
    """The error for an ``error`` object inside a 200."""
    codes = _codes(body)
    cls = next((_BY_CODE[code] for code in codes if code in _BY_CODE), ServerError)
    if not _FILTER_CODES.isdisjoint(codes):
        cls = ContentFiltered
    return cls(
        next((code for code in codes if _CODE.fullmatch(code)), ""),
        provider=ref.provider,
        model=ref.name,
        retryable=None if _QUOTA_CODES.isdisjoint(codes) else False,
    )


def from_transport(exc: BaseException, ref: ModelRef) -> ProviderError:
    """The error for a connection that failed.

    The aiohttp transport reports a refused or dropped connection as a time-out, so its cause is what counts.
    """
    import aiohttp
    import httpx2

    causes = list(_chain(exc))
    if any(isinstance(cause, httpx2.DecodingError | httpx2.RemoteProtocolError) for cause in causes):
        return MalformedResponse("not valid HTTP", provider=ref.provider, model=ref.name)
    late = any(isinstance(cause, aiohttp.ServerTimeoutError | asyncio.TimeoutError) for cause in causes)
    cls: type[ProviderError] = ProviderTimeout if late else ConnectionLost
    failure = cls(type(causes[-1]).__name__, provider=ref.provider, model=ref.name)
    if isinstance(failure, ProviderTimeout):
        failure.phase = "connect"
    if isinstance(failure, ConnectionLost):
        failure.sent = not any(isinstance(cause, aiohttp.ClientConnectorError) for cause in causes)
    return failure


def _chain(exc: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while exc is not None and len(found) < 10:
        found.append(exc)
        exc = exc.__cause__
    return found


def _codes(body: object) -> tuple[str, ...]:
    """``code`` and ``type`` of an error body, with or without the ``error`` around it; most telling first."""
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        body = body["error"]
    if not isinstance(body, dict):
        return ()
    fields: list[Any] = [body.get("code"), body.get("type")]
    return tuple(str(field) for field in fields if isinstance(field, str | int) and field)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, from ``retry-after-ms`` or ``retry-after`` (seconds or an HTTP date)."""
    try:
        return max(0.0, float(headers["retry-after-ms"]) / 1000)
    except (KeyError, ValueError):
        value = headers.get("retry-after", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        date = email.utils.parsedate_tz(value)
        return max(0.0, email.utils.mktime_tz(date) - time.time()) if date else None
