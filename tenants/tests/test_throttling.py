"""What admission asks, and what a client is told."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import psutil
import pytest
import redis
from django.test.utils import override_settings
from prometheus_client import REGISTRY

from chatplatform import embedded
from chatplatform.api.problem import Problem
from chatplatform.ratelimit import Decision, Refusal, Standing, Unit
from tenants import throttling
from tenants.models import ConfigurationVersion
from tenants.selectors import TenantState
from tenants.vocabulary import LimitLevel

TIMEOUT = 0.1  # s, as shipped
CONTACT = UUID("01900000-0000-7000-8000-000000000001")


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Valkey that may be broken."""
    with embedded.ensure(tmp_path_factory.mktemp("valkey"), ["valkey"]) as servers:
        yield servers.where.redis_url


@pytest.fixture
def valkey(private: str) -> Iterator[Any]:
    """The limiter's server, empty, and known to be there. A busy machine is no outage to these tests."""
    with (
        redis.Redis.from_url(private) as client,
        override_settings(RATE_LIMIT_URL=private, RATE_LIMIT_TIMEOUT=5.0),
    ):
        client.flushall()
        throttling._node.cache_clear()
        yield client


@pytest.fixture
def paused(valkey: Any) -> Iterator[psutil.Process]:
    """The limiter's server hangs: it takes connections, and never answers."""
    process = psutil.Process(valkey.info("server")["process_id"])
    process.suspend()
    with override_settings(RATE_LIMIT_TIMEOUT=TIMEOUT):
        yield process
    process.resume()


def limited(state: TenantState, **values: Any) -> TenantState:
    return replace(state, configuration=ConfigurationVersion(**values))


def refused(state: TenantState, contact: UUID | None = None, tokens: int = 0) -> Problem:
    with pytest.raises(Problem) as caught:
        throttling.admit(state, contact, uuid4(), tokens)
    return caught.value


def count(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"chatplatform_{name}", labels) or 0.0


# --- Passed and refused --------------------------------------------------------------------------------------------
def test_each_user_each_tenant_and_the_platform_have_a_limit(
    valkey: Any, acme: TenantState, globex: TenantState
) -> None:
    values = {"requests_per_minute": 3, "user_requests_per_minute": 2}
    one, other = limited(acme, **values), limited(globex, **values)
    with override_settings(GLOBAL_REQUESTS_PER_MINUTE=5):
        throttling.admit(one, CONTACT, uuid4(), 0)
        throttling.admit(one, CONTACT, uuid4(), 0)
        assert refused(one, CONTACT).body()["level"] == "user"
        throttling.admit(one, uuid4(), uuid4(), 0)
        assert refused(one, uuid4()).body()["level"] == "tenant"
        throttling.admit(other, CONTACT, uuid4(), 0)  # the same user id, of another tenant
        throttling.admit(other, None, uuid4(), 0)
        assert refused(other).body()["level"] == "global"


def test_a_refusal_is_a_problem_with_the_time_to_wait(valkey: Any, acme: TenantState) -> None:
    state = limited(acme, requests_per_minute=1)
    before = count("rate_limited_total", level="tenant")
    throttling.admit(state, None, uuid4(), 0)
    response = refused(state).response()
    body = json.loads(response.content)
    assert (response.status_code, body["code"]) == (429, "rate_limited")
    assert (body["level"], body["limit"]) == ("tenant", 1)
    assert 55 < body["retry_after"] <= 60
    assert response["Retry-After"] == "60"
    assert response["RateLimit-Policy"] == '"tenant";q=1;w=60'
    assert response["RateLimit"] == '"tenant";r=0;t=60'
    assert body["detail"] == "This tenant's limit is 1 request a minute; try again in 60 s."
    assert count("rate_limited_total", level="tenant") == before + 1


def test_a_passed_call_has_headers_too(valkey: Any, acme: TenantState) -> None:
    state = limited(acme, requests_per_minute=10, tokens_per_minute=5000, user_requests_per_minute=4)
    with override_settings(GLOBAL_REQUESTS_PER_MINUTE=9):
        decision = throttling.admit(state, CONTACT, uuid4(), 1200)
    assert throttling.headers(decision) == {
        "RateLimit-Policy": '"user";q=4;w=60, "tenant";q=10;w=60, "tenant-tokens";q=5000;qu="tokens";w=60',
        "RateLimit": '"user";r=3;t=60, "tenant";r=9;t=60, "tenant-tokens";r=3800;t=60',
    }


def test_no_limit_means_no_question_and_no_header(acme: TenantState) -> None:
    with override_settings(RATE_LIMIT_URL="redis://127.0.0.1:1"):
        decision = throttling.admit(acme, CONTACT, uuid4(), 10**6)
        assert throttling.headers(decision) == {}
        assert decision.checked


def test_a_message_beyond_the_limit_is_told_that_waiting_is_of_no_use(valkey: Any, acme: TenantState) -> None:
    problem = refused(limited(acme, tokens_per_minute=1000), tokens=1001)
    assert problem.body()["retry_after"] is None
    assert "Retry-After" not in problem.headers
    assert problem.detail == "This tenant's limit is 1,000 tokens a minute; one such message takes more."


def test_the_platforms_limit_is_told_only_when_it_refuses() -> None:
    standings = (
        Standing("tenant", Unit.REQUESTS, 10, 4, 20.2),
        Standing("global", Unit.REQUESTS, 10**17, 0, 3.01),
    )
    assert throttling.headers(Decision(None, standings)) == {
        "RateLimit-Policy": '"tenant";q=10;w=60',
        "RateLimit": '"tenant";r=4;t=21',
    }
    refusal = Refusal("global", Unit.REQUESTS, 10**17, 3.0101)
    problem = throttling.problem(Decision(refusal, standings), refusal)
    assert problem.headers == {
        "RateLimit-Policy": '"tenant";q=10;w=60, "global";q=999999999999999;w=60',
        "RateLimit": '"global";r=0;t=4',
        "Retry-After": "4",
    }
    assert problem.body()["retry_after"] == 3.011


def test_60_of_500_pass_when_there_are_more_callers_than_connections(valkey: Any, acme: TenantState) -> None:
    state = limited(acme, requests_per_minute=60)
    answers: list[bool | None] = []
    together = threading.Barrier(500)

    def call() -> None:
        together.wait()
        try:
            answers.append(throttling.admit(state, None, uuid4(), 0).checked)
        except Problem:
            answers.append(None)

    threads = [threading.Thread(target=call) for _ in range(500)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (answers.count(True), answers.count(None)) == (60, 440)
    assert len(valkey.client_list()) <= throttling.CONNECTIONS + 1


# --- Tokens --------------------------------------------------------------------------------------------------------
def test_what_a_reply_did_not_take_is_given_back_once(valkey: Any, acme: TenantState) -> None:
    state, call = limited(acme, tokens_per_minute=1000), uuid4()
    throttling.admit(state, None, call, 900)
    assert refused(state, tokens=200).body()["level"] == "tenant"
    for _ in range(3):
        throttling.correct(state, call, 100)
    throttling.admit(state, None, uuid4(), 900)
    refused(state, tokens=1)


def test_another_tenant_cannot_correct_it(valkey: Any, acme: TenantState, globex: TenantState) -> None:
    call = uuid4()
    one, other = limited(acme, tokens_per_minute=1000), limited(globex, tokens_per_minute=1000)
    throttling.admit(one, None, call, 1000)
    throttling.correct(other, call, 0)
    refused(one, tokens=1)


def test_the_usage_page_sees_what_is_left_and_takes_nothing(valkey: Any, acme: TenantState) -> None:
    state = limited(acme, requests_per_minute=5, user_requests_per_minute=1)
    throttling.admit(state, CONTACT, uuid4(), 0)
    assert [throttling.remaining(state) for _ in range(3)] == [4, 4, 4]
    assert throttling.remaining(acme) is None


# --- Outages -------------------------------------------------------------------------------------------------------
def test_while_the_limiter_hangs_calls_pass_unchecked_and_do_not_wait(
    valkey: Any, paused: psutil.Process, acme: TenantState, caplog: pytest.LogCaptureFixture
) -> None:
    state = limited(acme, requests_per_minute=1)
    unchecked = count("rate_limiter_unchecked_total")
    with caplog.at_level(logging.WARNING):
        begun = time.monotonic()
        first = throttling.admit(state, None, uuid4(), 0)
        took = time.monotonic() - begun
        others = [throttling.admit(state, None, uuid4(), 0) for _ in range(200)]
    assert took < 3
    assert not any(decision.checked for decision in (first, *others))
    assert throttling.headers(first) == {}
    assert count("rate_limiter_unchecked_total") == unchecked + 201
    assert sum("rate_limiter_away" in record.getMessage() for record in caplog.records) == 1
    assert throttling.remaining(state) == 1
    throttling.correct(state, uuid4(), 5)  # does not fail


def test_when_the_limiter_is_back_limits_hold_again(
    valkey: Any, paused: psutil.Process, acme: TenantState, caplog: pytest.LogCaptureFixture
) -> None:
    state = limited(acme, requests_per_minute=2)
    with caplog.at_level(logging.WARNING):
        assert not throttling.admit(state, None, uuid4(), 0).checked
        paused.resume()
        valkey.ping()
        valkey.flushall()  # the call that was given up has been counted
        until, passed = time.monotonic() + 60, 0
        with pytest.raises(Problem):
            while time.monotonic() < until:
                passed += throttling.admit(state, None, uuid4(), 0).checked
                time.sleep(0.01)
    assert passed == 2
    assert any("rate_limiter_back" in record.getMessage() for record in caplog.records)


def test_a_limiter_that_is_not_there_lets_pass(acme: TenantState) -> None:
    throttling._node.cache_clear()
    with override_settings(RATE_LIMIT_URL="redis://127.0.0.1:1"):
        assert not throttling.admit(limited(acme, requests_per_minute=0), None, uuid4(), 0).checked


def test_a_limiter_without_memory_lets_pass(valkey: Any, acme: TenantState) -> None:
    state = limited(acme, requests_per_minute=1)
    valkey.config_set("maxmemory", 1)
    try:
        assert not throttling.admit(state, None, uuid4(), 0).checked
    finally:
        valkey.config_set("maxmemory", 0)


def test_the_levels_are_those_of_the_contract() -> None:
    assert set(LimitLevel.values) == {"user", "tenant", "global"}
    assert set(throttling.OWNERS) == set(LimitLevel)
