"""Errors as RFC 9457 problems, with codes out of one closed list (CONTRACT §7)."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from django.core.exceptions import (
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
    ValidationError,
)
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpResponse, JsonResponse
from psycopg_pool import PoolTimeout
from rest_framework import exceptions as drf
from rest_framework.response import Response

from chatplatform.observability.context import request_id

log = structlog.get_logger("chatplatform.api")
CONTENT_TYPE = "application/problem+json"


class Code(enum.StrEnum):
    """Every code an answer can carry, with its status and title."""

    status: int
    meaning: str

    def __new__(cls, value: str, status: int = 500, meaning: str = "") -> Code:
        member = str.__new__(cls, value)
        member._value_ = value
        member.status = status
        member.meaning = meaning
        return member

    MALFORMED = "malformed", 400, "The request cannot be read"
    TENANT_REQUIRED = "tenant_required", 400, "Name the tenant"
    NOT_AUTHENTICATED = "not_authenticated", 401, "Not authenticated"
    BUDGET_EXCEEDED = "budget_exceeded", 402, "The budget is used up"
    NOT_ALLOWED = "not_allowed", 403, "Not allowed"
    TENANT_MISMATCH = "tenant_mismatch", 403, "The credential belongs to another tenant"
    TENANT_SUSPENDED = "tenant_suspended", 403, "The tenant is suspended"
    ORIGIN_NOT_ALLOWED = "origin_not_allowed", 403, "This origin is not allowed"
    MODEL_NOT_ALLOWED = "model_not_allowed", 403, "This model is not allowed"
    NOT_FOUND = "not_found", 404, "Not found"
    METHOD_NOT_ALLOWED = "method_not_allowed", 405, "Method not allowed"
    NOT_ACCEPTABLE = "not_acceptable", 406, "Not acceptable"
    REPLY_IN_PROGRESS = "reply_in_progress", 409, "A reply is in progress"
    SLUG_TAKEN = "slug_taken", 409, "The slug is taken"
    IDEMPOTENCY_IN_PROGRESS = "idempotency_in_progress", 409, "The first request is still running"
    TOO_LARGE = "too_large", 413, "Too large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type", 415, "Unsupported media type"
    INVALID_REQUEST = "invalid_request", 422, "The request is not valid"
    MODEL_UNKNOWN = "model_unknown", 422, "No such model"
    MODEL_UNPRICED = "model_unpriced", 422, "The model has no price"
    IDEMPOTENCY_MISMATCH = "idempotency_mismatch", 422, "The key was used with another body"
    RATE_LIMITED = "rate_limited", 429, "Too many requests"
    INTERNAL_ERROR = "internal_error", 500, "Internal error"
    PROVIDER_ERROR = "provider_error", 502, "The model's provider failed"
    PROVIDER_UNAVAILABLE = "provider_unavailable", 503, "The model's provider is not available"
    DATABASE_UNAVAILABLE = "database_unavailable", 503, "The database is not available"
    SHUTTING_DOWN = "shutting_down", 503, "Shutting down"
    DEADLINE_EXCEEDED = "deadline_exceeded", 504, "The reply took too long"


class Problem(Exception):
    """A refusal that a client is meant to see. `more` goes into the body beside the standard members."""

    def __init__(
        self, code: Code, detail: str = "", *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(detail or code.meaning)
        self.code, self.detail, self.more, self.headers = (
            code,
            detail or code.meaning,
            more,
            dict(headers or {}),
        )

    def body(self) -> dict[str, Any]:
        """The problem document."""
        return {
            "type": f"urn:chatplatform:problem:{self.code}",
            "title": self.code.meaning,
            "status": self.code.status,
            "detail": self.detail,
            "code": str(self.code),
            "request_id": request_id.get(),
            **self.more,
        }

    def response(self) -> HttpResponse:
        """The problem as a plain Django response."""
        return JsonResponse(
            self.body(), status=self.code.status, content_type=CONTENT_TYPE, headers=self.headers
        )


def shutting_down() -> Problem:
    """503 of a process that takes its leave."""
    return Problem(Code.SHUTTING_DOWN, "Try again: another process takes over.", headers={"Retry-After": "1"})


def invalid(field: str, message: str) -> Problem:
    """422 for one field."""
    return Problem(Code.INVALID_REQUEST, message, errors=[{"field": field, "message": message}])


FROM_DRF: tuple[tuple[type[Exception], Code], ...] = (
    (drf.ParseError, Code.MALFORMED),
    (drf.NotAuthenticated, Code.NOT_AUTHENTICATED),
    (drf.AuthenticationFailed, Code.NOT_AUTHENTICATED),
    (drf.PermissionDenied, Code.NOT_ALLOWED),
    (PermissionDenied, Code.NOT_ALLOWED),
    (drf.NotFound, Code.NOT_FOUND),
    (Http404, Code.NOT_FOUND),
    (drf.MethodNotAllowed, Code.METHOD_NOT_ALLOWED),
    (drf.NotAcceptable, Code.NOT_ACCEPTABLE),
    (drf.UnsupportedMediaType, Code.UNSUPPORTED_MEDIA_TYPE),
    (RequestDataTooBig, Code.TOO_LARGE),
    (SuspiciousOperation, Code.MALFORMED),
)
DATABASE_GONE = (OperationalError, InterfaceError, PoolTimeout)


def as_problem(error: Exception) -> Problem:
    """The problem that an exception stands for; what nobody foresaw is a logged `internal_error`."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, drf.ValidationError):
        errors = list(_flat(error.detail))
        return Problem(Code.INVALID_REQUEST, "; ".join(one["message"] for one in errors), errors=errors)
    if isinstance(error, ValidationError):
        errors = list(_flat(error.message_dict if hasattr(error, "error_dict") else error.messages))
        return Problem(Code.INVALID_REQUEST, "; ".join(one["message"] for one in errors), errors=errors)
    if isinstance(error, DATABASE_GONE):
        log.error("database_unavailable", error=type(error).__name__)
        return Problem(
            Code.DATABASE_UNAVAILABLE,
            "Nothing was stored; try again in a moment.",
            headers={"Retry-After": "2"},
        )
    for kind, code in FROM_DRF:
        if isinstance(error, kind):
            headers = {"WWW-Authenticate": "Bearer"} if code is Code.NOT_AUTHENTICATED else {}
            detail = str(getattr(error, "detail", "")) if isinstance(error, drf.APIException) else ""
            return Problem(code, detail, headers=headers)
    log.exception("internal_error", exc_info=error)
    return Problem(Code.INTERNAL_ERROR)


def handle_exception(error: Exception, context: Any) -> Response:
    """Django REST framework's EXCEPTION_HANDLER."""
    problem = as_problem(error)
    return Response(
        problem.body(), status=problem.code.status, content_type=CONTENT_TYPE, headers=problem.headers
    )


def _flat(detail: Any, field: str = "") -> Sequence[dict[str, str]]:
    """A nested error structure as a list of `{field, message}`, fields with dots."""
    if isinstance(detail, Mapping):
        names = ((name, "" if name == "non_field_errors" else str(name)) for name in detail)
        return [
            one
            for name, shown in names
            for one in _flat(detail[name], ".".join(filter(None, [field, shown])))
        ]
    if isinstance(detail, list | tuple):
        return [one for item in detail for one in _flat(item, field)]
    return [{"field": field, "message": str(detail)}]
