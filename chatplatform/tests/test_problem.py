"""Errors as problem documents."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import InterfaceError, OperationalError
from django.http import Http404
from psycopg_pool import PoolTimeout
from rest_framework import exceptions as drf

from chatplatform.api.problem import CONTENT_TYPE, Code, Problem, as_problem, handle_exception, invalid
from chatplatform.observability.context import request_id

# CONTRACT §7: the closed list.
STATUSES = {
    400: {"malformed", "tenant_required"},
    401: {"not_authenticated"},
    402: {"budget_exceeded"},
    403: {"not_allowed", "tenant_mismatch", "tenant_suspended", "origin_not_allowed", "model_not_allowed"},
    404: {"not_found"},
    405: {"method_not_allowed"},
    406: {"not_acceptable"},
    409: {"reply_in_progress", "slug_taken", "idempotency_in_progress"},
    413: {"too_large"},
    415: {"unsupported_media_type"},
    422: {"invalid_request", "model_unknown", "model_unpriced", "idempotency_mismatch"},
    429: {"rate_limited"},
    500: {"internal_error"},
    502: {"provider_error"},
    503: {"provider_unavailable", "database_unavailable", "shutting_down"},
    504: {"deadline_exceeded"},
}


def test_the_codes_are_those_of_the_contract() -> None:
    found: dict[int, set[str]] = {}
    for code in Code:
        found.setdefault(code.status, set()).add(str(code))
    assert found == STATUSES


def test_it_has_the_members_of_rfc_9457_and_ours() -> None:
    token = request_id.set("r-12345678")
    try:
        body = Problem(Code.RATE_LIMITED, "Slow down.", level="tenant", retry_after=3).body()
    finally:
        request_id.reset(token)
    assert body == {
        "type": "urn:chatplatform:problem:rate_limited",
        "title": "Too many requests",
        "status": 429,
        "detail": "Slow down.",
        "code": "rate_limited",
        "request_id": "r-12345678",
        "level": "tenant",
        "retry_after": 3,
    }


def test_it_explains_itself_without_a_detail() -> None:
    assert Problem(Code.NOT_FOUND).body()["detail"] == "Not found"


def test_as_a_response_it_says_what_it_is() -> None:
    response = Problem(Code.RATE_LIMITED, headers={"Retry-After": "3"}).response()
    assert (response.status_code, response["Content-Type"], response["Retry-After"]) == (
        429,
        CONTENT_TYPE,
        "3",
    )
    assert json.loads(response.content)["code"] == "rate_limited"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (drf.ParseError("no JSON"), Code.MALFORMED),
        (drf.NotAuthenticated(), Code.NOT_AUTHENTICATED),
        (drf.AuthenticationFailed(), Code.NOT_AUTHENTICATED),
        (drf.PermissionDenied(), Code.NOT_ALLOWED),
        (PermissionDenied(), Code.NOT_ALLOWED),
        (drf.NotFound(), Code.NOT_FOUND),
        (Http404(), Code.NOT_FOUND),
        (drf.MethodNotAllowed("PUT"), Code.METHOD_NOT_ALLOWED),
        (drf.NotAcceptable(), Code.NOT_ACCEPTABLE),
        (drf.UnsupportedMediaType("x/y"), Code.UNSUPPORTED_MEDIA_TYPE),
        (OperationalError("server closed the connection"), Code.DATABASE_UNAVAILABLE),
        (InterfaceError("closed"), Code.DATABASE_UNAVAILABLE),
        (PoolTimeout(), Code.DATABASE_UNAVAILABLE),
        (Problem(Code.SLUG_TAKEN), Code.SLUG_TAKEN),
    ],
)
def test_known_errors_have_their_code(error: Exception, code: Code) -> None:
    assert as_problem(error).code is code


def test_what_nobody_foresaw_tells_nothing() -> None:
    answer = handle_exception(RuntimeError("SELECT secret FROM users"), {})
    assert answer.status_code == 500
    assert "secret" not in json.dumps(answer.data)


def test_what_the_database_says_is_not_repeated() -> None:
    problem = as_problem(OperationalError('password authentication failed for user "cp_app"'))
    assert "cp_app" not in json.dumps(problem.body())
    assert problem.headers["Retry-After"]


def test_nested_field_errors_become_a_flat_list() -> None:
    detail: Any = {
        "end_user": {"external_id": ["Must be text."]},
        "tools": {"1": ["Too long."]},
        "non_field_errors": ["Together they are wrong."],
    }
    assert as_problem(drf.ValidationError(detail)).more["errors"] == [
        {"field": "end_user.external_id", "message": "Must be text."},
        {"field": "tools.1", "message": "Too long."},
        {"field": "", "message": "Together they are wrong."},
    ]


def test_a_models_own_errors_are_422_too() -> None:
    problem = as_problem(ValidationError({"temperature": ["At most 2."]}))
    assert problem.code is Code.INVALID_REQUEST
    assert problem.more["errors"] == [{"field": "temperature", "message": "At most 2."}]
    assert as_problem(ValidationError("Wrong.")).more["errors"] == [{"field": "", "message": "Wrong."}]


def test_invalid_names_one_field() -> None:
    assert invalid("slug", "Too long.").more["errors"] == [{"field": "slug", "message": "Too long."}]


def test_401_says_how_to_authenticate() -> None:
    assert as_problem(drf.NotAuthenticated()).headers == {"WWW-Authenticate": "Bearer"}
