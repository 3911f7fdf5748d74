"""Providers that fail, seen from outside: the reply, what is stored of its calls, and circuits across processes."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from decimal import Decimal
from http.client import HTTPConnection
from typing import Any
from uuid import UUID, uuid4

import pytest

from billing.models import LedgerEntry
from chatplatform import tenancy
from chatplatform.testing import cast
from chatplatform.testing.clients import Caller
from chatplatform.testing.live import Live, free_port
from chatplatform.testing.stage import until
from conversations.models import Reply
from conversations.tests.shapes import check_problem, check_reply

pytestmark = pytest.mark.usefixtures("committed")
FAST = "sim-tokens=8"


def stored(reply: dict[str, Any]) -> list[LedgerEntry]:
    """The calls of the attempt that settled one of Acme's replies."""
    with tenancy.in_tenant(cast.state("acme").ref):
        return list(LedgerEntry.objects.filter(reply=UUID(reply["id"]), attempt=reply["attempts"]))


def test_every_call_is_stored_with_its_reply(acme_api: Caller) -> None:
    conversation = acme_api.begin(
        "sim-tps=200,tokens=20,fault=drop@9", fallback_model=["sim-fault=error", "gpt-4o"]
    )
    reply = acme_api.ask(conversation)["reply"]
    rows = stored(reply)
    assert [(row.model.partition(",")[0], row.outcome, row.error) for row in rows] == [
        ("sim-tps=200", "failed", "connection_lost"),
        *[("sim-fault=error", "failed", "server_error")] * 3,
        ("gpt-4o", "completed", ""),
    ]
    assert [row.sequence for row in rows] == [1, 2, 3, 4, 5]
    assert [row.status for row in rows] == [None, 500, 500, 500, None]
    assert sum(row.charged_usd for row in rows) == Decimal(reply["cost_usd"]) > 0
    for name in ("input_tokens", "cached_input_tokens", "cache_write_input_tokens", "output_tokens"):
        assert sum(getattr(row, name) for row in rows) == reply["usage"][name]
    started = [row.started_at for row in rows]
    assert started == sorted(started)


def test_a_cancelled_call_is_stored_too(acme_api: Caller) -> None:
    conversation = acme_api.begin("gpt-4o")
    with acme_api.streaming(conversation, "[[sim: tps=20 tokens=400]]") as events:
        begun = next(event for event in events if event.kind == "delta").data["reply_id"]
    reply = acme_api.stop(conversation, begun)
    [row] = stored(reply)
    assert (row.outcome, row.estimated, reply["status"]) == ("cancelled", True, "cancelled")
    assert row.charged_usd == Decimal(reply["cost_usd"]) > 0 and row.output_tokens > 0


def replies(caller: Caller, conversation: str) -> list[dict[str, Any]]:
    """What the conversation has of replies."""
    said = caller.get(f"/conversations/{conversation}/messages").json()["results"]
    return [one["reply"] for one in said if one["reply"]]


LONG = "[[sim: tps=40 tokens=40]]"  # a second


def leave_a_stream(caller: Caller, conversation: str) -> None:
    with caller.streaming(conversation, LONG) as events:
        next(event for event in events if event.kind == "delta")


def leave_a_socket(caller: Caller, conversation: str) -> None:
    with caller.socket(conversation) as socket:
        socket.say(LONG)
        socket.until("delta")


def leave_a_request(caller: Caller, conversation: str) -> None:
    connection = HTTPConnection("127.0.0.1", caller.live.port)
    path, headers = f"/api/v1/conversations/{conversation}/messages", {"Content-Type": "application/json"}
    connection.request("POST", path, json.dumps({"content": LONG}), caller.headers | headers)
    until(
        lambda: [one for one in replies(caller, conversation) if one["status"] != "queued"],
        "the reply is begun",
    )
    connection.close()


@pytest.mark.parametrize("leave", [leave_a_stream, leave_a_socket, leave_a_request])
def test_a_client_that_leaves_changes_nothing(acme_api: Caller, leave: Callable[[Caller, str], None]) -> None:
    conversation = acme_api.begin("gpt-4o")
    leave(acme_api, conversation)
    until(lambda: replies(acme_api, conversation)[0]["completed_at"], "the reply is finished")
    [reply] = replies(acme_api, conversation)
    [row] = stored(reply)
    assert (reply["status"], len(reply["content"].split())) == ("completed", 40)
    assert (row.outcome, row.estimated, row.output_tokens) == ("completed", False, 40)
    assert row.charged_usd == Decimal(reply["cost_usd"]) > 0


# --- Degradation -----------------------------------------------------------------------------------------------------
@pytest.fixture
def degrading(acme_api: Caller) -> Iterator[None]:
    """Acme lets the built-in model answer."""
    assert acme_api.patch("/tenants/acme/config", {"degrade_to_local": True}).status_code == 200
    yield
    assert acme_api.patch("/tenants/acme/config", {"degrade_to_local": False}).status_code == 200


def test_a_tenant_may_have_the_built_in_model_answer(acme_api: Caller, degrading: None) -> None:
    conversation = acme_api.begin("sim-fault=unavailable", fallback_model="anthropic/sim-fault=overloaded")
    reply = acme_api.ask(conversation)["reply"]
    check_reply(reply)
    assert (reply["status"], reply["provider"], reply["degraded"]) == ("completed", "local", True)
    assert "built-in assistant" in reply["notice"] and reply["notice"] not in reply["content"]
    assert reply["error"] is None


def test_it_does_not_unless_it_is_allowed_to(acme_api: Caller) -> None:
    body = check_problem(acme_api.say(acme_api.begin("sim-fault=unavailable")), 503, "provider_unavailable")
    assert (body["reply"]["content"], body["reply"]["degraded"]) == ("", False)


def metrics_at(port: int) -> str:
    """What a worker serves there; nothing while it does not."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


# --- Circuits --------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def another_worker(live: Live) -> Iterator[int]:
    """A second worker process, the only one whose policy would ever open a circuit. The port of its metrics."""
    before, port = dict(live.environment), free_port()
    live.environment |= {
        "BREAKER_LEAST_CALLS": "8", "BREAKER_OPEN_SECONDS": "600", "WORKER_METRICS_PORT": str(port)
    }  # fmt: skip
    live.start("worker-2")
    live.environment = before
    until(lambda: live.workers(2), "both workers take jobs")
    yield port
    live.stop("worker-2")


@pytest.mark.slow
@pytest.mark.processes
def test_what_fails_in_one_process_is_left_alone_by_all(acme_api: Caller, another_worker: int) -> None:
    model = f"sim-fault=unavailable,{uuid4().hex[:8]}"
    outcomes: list[str] = []
    for _ in range(60):
        reply = acme_api.ask(acme_api.begin(model, fallback_model=FAST))["reply"]
        assert (reply["status"], reply["degraded"]) == ("completed", True), "nobody goes without an answer"
        outcomes += [row.outcome for row in stored(reply)[:-1]]
        if outcomes[-12:] == ["skipped"] * 12:
            break
    assert outcomes[-12:] == ["skipped"] * 12, outcomes
    assert 8 <= outcomes.count("failed") < 60


@pytest.mark.slow
@pytest.mark.processes
def test_a_worker_serves_its_metrics(acme_api: Caller, live: Live, another_worker: int) -> None:
    assert live.environment.get("WORKER_METRICS_PORT") is None, "the other one does not"
    for _ in range(40):
        acme_api.ask(acme_api.begin(FAST))
        served = metrics_at(another_worker)
        if f'calls_total{{model="{FAST}",outcome="completed",provider="openai"}}' in served:
            break
    for name in ("first_token_seconds_bucket", "call_seconds_count", "streams_waiting"):
        assert f"chatplatform_provider_{name}{{" in served
    assert 'chatplatform_circuit{model="sim-' in served
    assert "acme" not in served


def test_what_was_called_outlives_the_reply(acme_api: Caller) -> None:
    reply = acme_api.ask(acme_api.begin(FAST))["reply"]
    assert len(stored(reply)) == 1
    with tenancy.in_tenant(cast.state("acme").ref):
        Reply.objects.filter(pk=UUID(reply["id"])).delete()
    assert len(stored(reply)) == 1
