"""A reply's events over SSE: their order, their cursor, and reading them again from any point."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.conf import settings
from redis import Redis

from billing.models import LedgerEntry
from chatplatform import tenancy
from chatplatform.llm.tokens import count_pieces
from chatplatform.testing import cast
from chatplatform.testing.clients import FAST, LAST, SILENT, SLOW, Caller, Event, text_of
from chatplatform.testing.stage import until
from conversations.api import sse
from conversations.streaming import events as made
from conversations.streaming.reader import Cursor
from conversations.tests.shapes import check_problem, check_reply
from tenants.auth.principal import Principal

NOBODY = Principal("test", frozenset(), None)
MODELS = ["local", "sim-tokens=60,tps=400", "anthropic/sim-tokens=60,tps=400"]


def check_order(found: list[Event]) -> None:
    """`accepted`, then text, then exactly one last event; every cursor later than the one before."""
    kinds = [event.kind for event in found]
    assert kinds[0] == "accepted"
    assert [kind for kind in kinds if kind in LAST] == kinds[-1:]
    assert set(kinds[1:-1]) <= {"delta", "reset", "tool"}
    positions = [made.position(event.id) for event in found]
    assert positions == sorted(set(positions))
    assert len({event.data["reply_id"] for event in found}) == 1


def position_of(name: str, found: list[Event]) -> int:
    return [event.kind for event in found].index(name)


def forget(reply: str) -> int:
    """Take a reply's log away, as a flushed Valkey does. Returns how many keys it had."""
    with Redis.from_url(settings.EVENT_LOG_URL) as valkey:
        keys = list(valkey.scan_iter(f"*{reply}*"))
        return int(valkey.delete(*keys)) if keys else 0


@pytest.fixture(scope="module")
def told(acme_api: Caller) -> tuple[str, list[Event]]:
    """A conversation, and the events of its one finished reply."""
    conversation = acme_api.begin("sim-tokens=40,tps=400")
    return conversation, acme_api.stream(conversation)


# --- A stream --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("model", MODELS)
def test_the_deltas_join_to_exactly_the_reply(acme_api: Caller, model: str) -> None:
    conversation = acme_api.begin(model)
    found = acme_api.stream(conversation, "What is the answer? 👩‍👩‍👧 é")
    check_order(found)
    assert found[-1].kind == "completed"
    reply = found[-1].data["reply"]
    check_reply(reply)
    assert text_of(found) == reply["content"] != ""
    assert acme_api.reply(conversation, reply["id"]) == reply
    assert set(found[0].data) == {"user_message_id", "reply_id"}
    assert all(set(event.data) == {"reply_id", "text"} for event in found if event.kind == "delta")
    assert set(found[-1].data) == {"reply_id", "reply"}


def test_the_text_grows_while_it_is_generated(acme_api: Caller) -> None:
    # It takes a second, and what comes within 50 ms is joined.
    found = acme_api.stream(acme_api.begin("sim-tokens=30,tps=30"))
    assert sum(event.kind == "delta" for event in found) > 2


def test_a_stream_is_an_event_stream(acme_api: Caller) -> None:
    path, body = f"/conversations/{acme_api.begin()}/messages", {"content": "Hello", "stream": True}
    for accept in ("text/event-stream", "*/*", "application/json"):
        with acme_api.http.stream("POST", path, json=body, headers={"Accept": accept}) as answer:
            assert answer.status_code == 200
            assert answer.headers["Content-Type"] == "text/event-stream"
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["X-Accel-Buffering"] == "no"
            answer.read()


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
@pytest.mark.parametrize("fault", ["error", "truncate", "drop@10", "malformed@10", "overloaded_inside@10"])
def test_a_failure_is_the_last_event(acme_api: Caller, provider: str, fault: str) -> None:
    found = acme_api.stream(acme_api.begin(f"{provider}/sim-tokens=20,tps=400,fault={fault}"))
    check_order(found)
    assert found[-1].kind == "failed"
    reply = found[-1].data["reply"]
    assert reply["error"]["code"] in ("provider_error", "provider_unavailable")
    assert text_of(found) == reply["content"]


@pytest.mark.parametrize("fault", ["truncate", "drop@10", "overloaded_inside@10", "malformed@10"])
def test_another_model_takes_over_with_a_reset(acme_api: Caller, fault: str) -> None:
    conversation = acme_api.begin(
        f"sim-tokens=20,tps=200,fault={fault}", fallback_model="anthropic/sim-tokens=9"
    )
    found = acme_api.stream(conversation)
    check_order(found)
    assert position_of("delta", found) < position_of("reset", found)
    assert found[position_of("reset", found)].data["reason"] == "failover"
    reply = found[-1].data["reply"]
    assert (reply["status"], reply["provider"], reply["degraded"]) == ("completed", "anthropic", True)
    assert text_of(found) == reply["content"]


def test_a_model_that_fails_before_its_first_word_needs_no_reset(acme_api: Caller) -> None:
    found = acme_api.stream(acme_api.begin("sim-fault=error", fallback_model=FAST))
    assert "reset" not in [event.kind for event in found]
    assert found[-1].data["reply"]["degraded"] is True


def test_a_refusal_is_a_problem_and_no_stream(acme_api: Caller) -> None:
    path = f"/conversations/{acme_api.begin()}/messages"
    answer = acme_api.post(path, {"content": "", "stream": True}, headers={"Accept": "text/event-stream"})
    check_problem(answer, 422, "invalid_request")


# --- Reading again ---------------------------------------------------------------------------------------------
def test_all_events_can_be_read_again(acme_api: Caller, told: tuple[str, list[Event]]) -> None:
    conversation, found = told
    assert acme_api.events(conversation, found[0].data["reply_id"]) == found


def test_it_resumes_exactly_after_any_cursor(acme_api: Caller, told: tuple[str, list[Event]]) -> None:
    conversation, found = told
    for place, event in enumerate(found[:-1], 1):
        assert acme_api.events(conversation, event.data["reply_id"], event.id) == found[place:]


def test_it_resumes_in_mid_answer_without_a_gap(acme_api: Caller) -> None:
    conversation = acme_api.begin("sim-tokens=60,tps=100")
    with acme_api.streaming(conversation) as events:
        seen = [next(events) for _ in range(4)]
    seen += acme_api.events(conversation, seen[0].data["reply_id"], seen[-1].id)
    check_order(seen)
    assert text_of(seen) == seen[-1].data["reply"]["content"]


def test_two_readers_read_the_same(acme_api: Caller) -> None:
    conversation = acme_api.begin("sim-tokens=40,tps=100")
    with acme_api.streaming(conversation) as events:
        first = next(events)
        other = acme_api.events(conversation, first.data["reply_id"])
        assert [first, *events] == other


def test_after_the_last_event_there_is_nothing(acme_api: Caller, told: tuple[str, list[Event]]) -> None:
    conversation, found = told
    path = f"/conversations/{conversation}/replies/{found[0].data['reply_id']}/events"
    answer = acme_api.get(path, headers={"Last-Event-ID": found[-1].id})
    assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize("cursor", ["x", "1", "1-", "-1", "1-x", "9" * 50 + "-0", "1-1; DROP", "²-1"])
def test_a_cursor_that_never_was_one_is_refused(
    acme_api: Caller, told: tuple[str, list[Event]], cursor: str
) -> None:
    path = f"{acme_api.live.api}/conversations/{told[0]}/replies/{told[1][0].data['reply_id']}/events"
    answer = acme_api.http.get(path, headers=[(b"last-event-id", cursor.encode())])
    check_problem(answer, 422, "invalid_request")


def test_a_readers_accept_header_may_be_anything_that_fits(
    acme_api: Caller, told: tuple[str, list[Event]]
) -> None:
    path = f"/conversations/{told[0]}/replies/{told[1][0].data['reply_id']}/events"
    for accept in ("text/event-stream", "*/*", "text/*", "application/json"):
        assert acme_api.get(path, headers={"Accept": accept}).headers["Content-Type"] == "text/event-stream"


def test_a_cursor_lets_each_event_pass_once_and_none_before_it() -> None:
    cursor = Cursor("r", "1700000000000-9")
    passed = [
        cursor.passes(made.Event("r", f"1700000000000-{n}", "delta", b"{}")) for n in (8, 9, 10, 10, 9, 11)
    ]
    assert passed == [False, False, True, False, False, True]


# --- The log is gone -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seen", [None, 0, 2])
def test_a_finished_reply_is_told_from_the_database(acme_api: Caller, seen: int | None) -> None:
    conversation = acme_api.begin()
    found = acme_api.stream(conversation)
    reply = found[0].data["reply_id"]
    assert forget(reply) > 0
    again = acme_api.events(conversation, reply, None if seen is None else found[seen].id)
    assert [event.kind for event in again] == ["reset", "delta", "completed"]
    assert again[0].data == {"reply_id": reply, "reason": "log_lost"}
    assert text_of(again) == again[-1].data["reply"]["content"] == found[-1].data["reply"]["content"]
    path = f"/conversations/{conversation}/replies/{reply}/events"
    assert acme_api.get(path, headers={"Last-Event-ID": again[-1].id}).status_code == 204


def test_a_running_reply_begins_again_in_every_reader(acme_api: Caller) -> None:
    conversation = acme_api.begin("sim-tokens=80,tps=60")
    with acme_api.streaming(conversation) as events:
        seen = [next(events) for _ in range(5)]
        assert forget(seen[0].data["reply_id"]) > 0
        seen_late = acme_api.events(conversation, seen[0].data["reply_id"])
        seen += events
    for found in (seen, seen_late):
        assert text_of(found) == found[-1].data["reply"]["content"]
        assert "reset" in [event.kind for event in found]


def test_a_cancelled_reply_whose_log_is_gone_says_so(acme_api: Caller) -> None:
    conversation = acme_api.begin(SLOW)
    with acme_api.streaming(conversation) as events:
        reply = next(event for event in events if event.kind == "delta").data["reply_id"]
    acme_api.stop(conversation, reply)
    forget(reply)
    assert [event.kind for event in acme_api.events(conversation, reply)] == ["reset", "delta", "cancelled"]


def test_a_failed_reply_without_text_has_no_delta(acme_api: Caller) -> None:
    conversation = acme_api.begin("sim-fault=error")
    reply = acme_api.stream(conversation)[0].data["reply_id"]
    forget(reply)
    assert [event.kind for event in acme_api.events(conversation, reply)] == ["reset", "failed"]


# --- Keeping the connection alive ------------------------------------------------------------------------------
async def test_a_comment_keeps_a_silent_stream_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    speak = asyncio.Event()

    async def silent() -> Any:
        await speak.wait()
        yield Event
        raise AssertionError("not asked for")

    assert sse.KEEP_ALIVE == 15.0
    monkeypatch.setattr(sse, "KEEP_ALIVE", 0.001)
    stream: Any = aiter(sse.response(silent(), NOBODY))
    assert await anext(stream) == sse.COMMENT
    assert await anext(stream) == sse.COMMENT
    assert sse.COMMENT.startswith(b":")
    await stream.aclose()


@pytest.mark.usefixtures("committed")
@pytest.mark.parametrize("way", ["SSE", "WebSocket"])
def test_a_client_that_leaves_changes_nothing(acme_api: Caller, way: str) -> None:
    """The reply is finished, stored and billed with nobody there."""
    conversation = acme_api.begin("sim-tokens=30,tps=60")
    if way == "SSE":
        with acme_api.streaming(conversation) as events:
            reply = next(event for event in events if event.kind == "delta").data["reply_id"]
    else:
        with acme_api.socket(conversation) as socket:
            socket.say()
            reply = socket.until("delta")[-1]["reply_id"]
    until(lambda: acme_api.reply(conversation, reply)["status"] == "completed", "it is finished")
    stored = acme_api.reply(conversation, reply)
    assert count_pieces([stored["content"]]) == stored["usage"]["output_tokens"] == 30
    with tenancy.in_tenant(cast.state("acme").ref):
        row = LedgerEntry.objects.get(reply=reply)
    assert (row.outcome, row.estimated) == ("completed", False)
    assert (row.input_tokens, row.output_tokens) == (stored["usage"]["input_tokens"], 30)


def test_a_reply_without_a_word_can_be_cancelled(acme_api: Caller) -> None:
    conversation = acme_api.begin(SILENT)
    found = acme_api.stop(conversation, acme_api.start(conversation))
    assert (found["status"], found["content"], found["usage"]["output_tokens"]) == ("cancelled", "", 0)
