"""The public shapes of CONTRACT §5, as sets of names."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

CONVERSATION = set("id tenant status channel end_user model metadata greeting created_at updated_at".split())
MESSAGE = set("id role content created_at reply".split())
REPLY = set(
    """
    id status content model provider finish_reason usage cost_usd cache sources attempts degraded notice error timing
    created_at completed_at
    """.split()
)
USAGE = {"input_tokens", "cached_input_tokens", "cache_write_input_tokens", "output_tokens"}
TIMING = {"queued_ms", "first_token_ms", "total_ms"}
PROBLEM = {"type", "title", "status", "detail", "code", "request_id"}
UTC_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
DECIMAL = re.compile(r"\d+\.\d+|\d+")


def check_conversation(shown: dict[str, Any]) -> None:
    assert set(shown) == CONVERSATION
    assert UUID(shown["id"]).version == 7
    assert UTC_TIME.fullmatch(shown["created_at"])


def check_message(shown: dict[str, Any]) -> None:
    assert set(shown) == MESSAGE
    assert UUID(shown["id"]).version == 7
    if shown["role"] == "assistant":
        check_reply(shown["reply"])
        assert (shown["reply"]["id"], shown["reply"]["content"]) == (shown["id"], shown["content"])
    else:
        assert shown["reply"] is None


def check_reply(shown: dict[str, Any]) -> None:
    assert set(shown) == REPLY
    assert set(shown["usage"]) == USAGE
    assert set(shown["timing"]) == TIMING
    assert isinstance(shown["cost_usd"], str)
    assert DECIMAL.fullmatch(shown["cost_usd"])
    assert UTC_TIME.fullmatch(shown["created_at"])
    assert (shown["completed_at"] is None) == (shown["status"] in ("queued", "generating"))


def check_problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    """The body of an answer that is this problem, in full."""
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body.get("code")) == (status, code), answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert set(body) >= PROBLEM
    assert body["status"] == status
    assert body["request_id"] == answer.headers["X-Request-ID"]
    return body
