"""A message over a rate limit is refused everywhere alike, and leaves nothing behind (CONTRACT §7)."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from chatplatform.testing.clients import Caller
from chatplatform.testing.live import Live

LIMIT = 5


def new_tenant(staff_api: Caller, live: Live, **limits: int) -> Caller:
    """A tenant of this test alone: what passed in the minute before must not count."""
    slug = f"limited-{uuid.uuid4().hex[:8]}"
    answer = staff_api.post("/tenants", {"name": "Limited", "slug": slug, "rate_limits": limits})
    assert answer.status_code == 201, answer.text
    caller = Caller(live, answer.json()["api_key"])
    deadline = time.monotonic() + 20
    while caller.get("/conversations").status_code != 200:
        assert time.monotonic() < deadline, "the tenant is not active"
        time.sleep(0.1)
    return caller


@pytest.fixture
def limited(staff_api: Caller, live: Live) -> Caller:
    return new_tenant(staff_api, live, requests_per_minute=LIMIT)


def check_refusal(problem: dict[str, Any]) -> None:
    assert (problem["status"], problem["code"], problem["level"]) == (429, "rate_limited", "tenant")
    assert problem["limit"] == LIMIT
    assert 0 < problem["retry_after"] <= 60.25


def test_what_passes_says_what_is_left(limited: Caller) -> None:
    answer = limited.say(limited.begin())
    assert answer.headers["RateLimit-Policy"] == f'"tenant";q={LIMIT};w=60'
    assert answer.headers["RateLimit"].startswith(f'"tenant";r={LIMIT - 1};t=')


def test_of_many_at_once_as_many_pass_as_may(limited: Caller) -> None:
    conversations = [limited.begin() for _ in range(4 * LIMIT)]
    with ThreadPoolExecutor(len(conversations)) as threads:
        answers = list(threads.map(limited.say, conversations))
    passed = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert (len(passed), len(refused)) == (LIMIT, 3 * LIMIT)
    for answer in refused:
        check_refusal(answer.json())
        assert 1 <= int(answer.headers["Retry-After"]) <= 61
    stored = [limited.get(f"/conversations/{one}/messages").json()["results"] for one in conversations]
    assert sorted(map(len, stored)) == [0] * 3 * LIMIT + [2] * LIMIT


def test_streams_and_sockets_are_refused_alike(limited: Caller) -> None:
    conversation = limited.begin()
    for left in reversed(range(LIMIT)):
        answer = limited.say(conversation, stream=True)
        assert answer.headers["RateLimit-Policy"] == f'"tenant";q={LIMIT};w=60'
        assert answer.headers["RateLimit"].startswith(f'"tenant";r={left};t=')
    answer = limited.say(conversation, stream=True)
    assert (answer.status_code, answer.headers["content-type"]) == (429, "application/problem+json")
    assert 1 <= int(answer.headers["Retry-After"]) <= 61
    assert answer.headers["RateLimit"].startswith('"tenant";r=0;t=')
    check_refusal(answer.json())
    with limited.socket(conversation) as socket:
        socket.say(client_id="over")
        [frame] = [frame for frame in socket.until("error") if frame["type"] == "error"]
        assert frame["client_id"] == "over"
        check_refusal(frame["error"])
        socket.say("", client_id="still open")
        [frame] = [frame for frame in socket.until("error") if frame["type"] == "error"]
        assert frame["error"]["code"] == "invalid_request"


def test_a_repeated_request_costs_nothing(limited: Caller) -> None:
    conversation, key = limited.begin(), {"Idempotency-Key": uuid.uuid4().hex}
    answers = [limited.say(conversation, headers=key) for _ in range(2 * LIMIT)]
    assert [answer.status_code for answer in answers] == [200] * 2 * LIMIT
    assert limited.say(conversation).headers["RateLimit"].startswith(f'"tenant";r={LIMIT - 2};')


def test_a_refusal_under_a_key_is_not_kept(limited: Caller) -> None:
    conversation, key = limited.begin(), {"Idempotency-Key": uuid.uuid4().hex}
    for _ in range(LIMIT):
        limited.ask(conversation)
    for _ in range(2):
        answer = limited.say(conversation, headers=key)
        assert answer.status_code == 429
        assert "Idempotent-Replayed" not in answer.headers


def test_tokens_are_held_and_put_right_at_the_end(staff_api: Caller, live: Live) -> None:
    caller = new_tenant(staff_api, live, tokens_per_minute=10_000)
    conversation = caller.begin("sim-tokens=40,tps=0,ttft=0")

    def left(answer: Any) -> int:
        return int(answer.headers["RateLimit"].partition('"tenant-tokens";r=')[2].partition(";")[0])

    first, second = (caller.say(conversation, max_tokens=800) for _ in range(2))
    assert left(first) <= 9200
    usage = first.json()["reply"]["usage"]
    taken = usage["input_tokens"] + usage["output_tokens"]
    assert taken < 400
    # The second message was held to take as much as the first, which has ended with less.
    assert left(first) - taken < left(second) + 800 - taken < left(first) + 800
    assert left(second) > left(first) - 800
