"""Conversations and their turns over REST, as CONTRACT §5 has it."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from chatplatform.testing.clients import FAST, SILENT, SLOW, Caller
from conversations.tests.shapes import check_conversation, check_message, check_problem, check_reply

WHOLE: dict[str, Any] = {
    "model": FAST,
    "fallback_model": ["local"],
    "temperature": 0.5,
    "system_prompt": "Be brief.",
    "channel": "whatsapp",
    "metadata": {"order": 5, "deep": {"er": [1, None, "é"]}},
}


def listed(api: Caller, conversation: str) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = api.get(f"/conversations/{conversation}/messages").json()["results"]
    return messages


# --- Conversations ---------------------------------------------------------------------------------------------
def test_a_conversation_needs_nothing(acme_api: Caller) -> None:
    answer = acme_api.post("/conversations")
    assert answer.status_code == 201
    shown = answer.json()
    check_conversation(shown)
    assert (shown["tenant"], shown["status"], shown["end_user"], shown["model"]) == (
        "acme",
        "open",
        None,
        None,
    )
    assert (shown["metadata"], shown["greeting"]) == ({}, "Hello! How can I help you?")


def test_a_conversation_takes_all_that_the_contract_lists(acme_api: Caller) -> None:
    shown = acme_api.post("/conversations", WHOLE).json()
    check_conversation(shown)
    assert {name: shown[name] for name in ("model", "channel", "metadata")} == {
        name: WHOLE[name] for name in ("model", "channel", "metadata")
    }
    assert acme_api.get(f"/conversations/{shown['id']}").json() == shown


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_null_means_not_given_where_it_makes_sense(acme_api: Caller, name: str) -> None:
    answer = acme_api.post("/conversations", {name: None})
    assert answer.status_code in (201, 422), answer.text


def test_an_end_user_is_an_object_or_its_external_id(acme_api: Caller) -> None:
    name, person = f"u-{uuid4()}", {"name": "Ada", "email": "ada@example.com", "attributes": {"vip": True}}
    plain = acme_api.post("/conversations", {"end_user": name}).json()
    assert plain["end_user"] == {"external_id": name}
    whole = acme_api.post("/conversations", {"end_user": {"external_id": name, **person}}).json()
    assert whole["end_user"] == {"external_id": name, **person}
    assert acme_api.get(f"/conversations/{plain['id']}").json()["end_user"] == whole["end_user"]


def test_what_a_conversation_was_given_reaches_the_model(acme_api: Caller) -> None:
    marker = f"marker-{uuid4().hex}"
    conversation = acme_api.begin("sim-tokens=4", system_prompt=f"Say {marker}.", temperature=0.25)
    acme_api.ask(conversation, "Hello there", max_tokens=7)
    sent = [one["body"] for one in acme_api.live.simulator.requests() if marker in str(one["body"])]
    assert sent[-1]["temperature"] == 0.25
    assert {sent[-1].get("max_tokens"), sent[-1].get("max_completion_tokens")} == {7, None}
    assert sent[-1]["messages"][-1] == {"role": "user", "content": "Hello there"}


def test_conversations_are_listed_newest_first_in_pages(acme_api: Caller) -> None:
    made = [acme_api.begin() for _ in range(5)]
    first = acme_api.get("/conversations", params={"page_size": 2}).json()
    assert set(first) == {"next", "previous", "results"}
    second = acme_api.http.get(first["next"]).json()
    shown = [one["id"] for one in first["results"] + second["results"]]
    assert shown == made[:0:-1]
    assert acme_api.http.get(second["previous"]).json()["results"] == first["results"]
    for one in first["results"]:
        check_conversation(one)


@pytest.mark.parametrize(
    "query", ["page_size=0", "page_size=many", "cursor=nonsense", "cursor=cD1hYmM%3D", "cursor=cD0A"]
)
def test_a_wrong_page_is_422(acme_api: Caller, query: str) -> None:
    check_problem(acme_api.get(f"/conversations?{query}"), 422, "invalid_request")


# --- Turns -----------------------------------------------------------------------------------------------------
def test_a_turn_is_a_message_and_its_reply(acme_api: Caller) -> None:
    conversation = acme_api.begin("sim-tokens=12")
    turn = acme_api.ask(conversation, "Hello there")
    assert set(turn) == {"user_message", "reply"}
    check_message(turn["user_message"])
    check_reply(turn["reply"])
    assert (turn["user_message"]["role"], turn["user_message"]["content"]) == ("user", "Hello there")
    reply = turn["reply"]
    assert {name: reply[name] for name in ("status", "finish_reason", "attempts", "degraded", "cache")} == {
        "status": "completed", "finish_reason": "stop", "attempts": 1, "degraded": False, "cache": None,
    }  # fmt: skip
    assert (reply["model"], reply["provider"], reply["usage"]["output_tokens"]) == (
        "sim-tokens=12",
        "openai",
        12,
    )
    assert reply["content"].startswith("You asked: Hello there")
    assert all(isinstance(milliseconds, int) for milliseconds in reply["timing"].values())
    assert acme_api.reply(conversation, reply["id"]) == reply


def test_messages_are_listed_oldest_first(acme_api: Caller) -> None:
    conversation = acme_api.begin()
    turns = [acme_api.ask(conversation, word) for word in ("One", "Two")]
    messages = listed(acme_api, conversation)
    for message in messages:
        check_message(message)
    assert [message["role"] for message in messages] == ["user", "assistant"] * 2
    assert [message["reply"] for message in messages[1::2]] == [turn["reply"] for turn in turns]
    page = acme_api.get(f"/conversations/{conversation}/messages", params={"page_size": 1}).json()
    assert page["results"] == messages[:1]
    assert acme_api.http.get(page["next"]).json()["results"] == messages[1:2]


def test_one_reply_at_a_time(acme_api: Caller) -> None:
    conversation = acme_api.begin(SILENT)
    reply = acme_api.start(conversation)
    check_problem(acme_api.say(conversation), 409, "reply_in_progress")
    assert len(listed(acme_api, conversation)) == 2
    assert acme_api.reply(conversation, reply)["status"] in ("queued", "generating")
    acme_api.stop(conversation, reply)
    assert acme_api.say(acme_api.begin()).status_code == 200


def test_a_cancelled_reply_keeps_and_bills_what_was_generated(acme_api: Caller) -> None:
    conversation = acme_api.begin(SLOW)
    with acme_api.streaming(conversation) as events:
        first = next(event for event in events if event.kind == "delta")
        answer = acme_api.cancel(conversation, first.data["reply_id"])
        assert answer.status_code == 202
        check_reply(answer.json())
        last = list(events)[-1]
    assert last.kind == "cancelled"
    reply = last.data["reply"]
    assert reply == acme_api.reply(conversation, reply["id"])
    assert (reply["status"], reply["finish_reason"], reply["error"]) == ("cancelled", "cancelled", None)
    assert reply["content"].startswith(first.data["text"])
    assert reply["usage"]["output_tokens"] > 0


def test_cancelling_a_finished_reply_changes_nothing(acme_api: Caller) -> None:
    conversation = acme_api.begin()
    reply = acme_api.ask(conversation)["reply"]
    answer = acme_api.cancel(conversation, reply["id"])
    assert (answer.status_code, answer.json()) == (202, reply)
    assert acme_api.reply(conversation, reply["id"]) == reply


def test_a_resolved_conversation_is_reopened_by_a_message(acme_api: Caller) -> None:
    conversation = acme_api.begin()
    resolved = acme_api.post(f"/conversations/{conversation}/resolve")
    assert (resolved.status_code, resolved.json()["status"]) == (200, "resolved")
    check_conversation(resolved.json())
    acme_api.ask(conversation)
    assert acme_api.get(f"/conversations/{conversation}").json()["status"] == "open"


def test_max_tokens_cuts_the_reply(acme_api: Caller) -> None:
    reply = acme_api.ask(acme_api.begin(), max_tokens=5)["reply"]
    assert (reply["finish_reason"], reply["usage"]["output_tokens"]) == ("length", 5)


# --- What is said about a conversation -------------------------------------------------------------------------
def test_feedback_is_replaced_by_later_feedback(acme_api: Caller) -> None:
    conversation = acme_api.begin()
    reply = acme_api.ask(conversation)["reply"]["id"]
    path = f"/conversations/{conversation}/messages/{reply}/feedback"
    for body, shown in (
        ({"rating": "up", "comment": "Nice ♥"}, {"rating": "up", "comment": "Nice ♥"}),
        ({"rating": "down"}, {"rating": "down", "comment": None}),
    ):
        answer = acme_api.post(path, body)
        assert (answer.status_code, answer.json()) == (200, shown)


def test_feedback_is_for_assistants_messages(acme_api: Caller) -> None:
    conversation = acme_api.begin()
    said = acme_api.ask(conversation)["user_message"]["id"]
    path = f"/conversations/{conversation}/messages/{said}/feedback"
    check_problem(acme_api.post(path, {"rating": "up"}), 404, "not_found")


def test_a_rating_has_one_to_five_stars(acme_api: Caller) -> None:
    path = f"/conversations/{acme_api.begin()}/rating"
    for stars in (1, 5):
        rated = acme_api.post(path, {"stars": stars, "comment": "So so"})
        assert rated.status_code == 200
        check_conversation(rated.json())
    for wrong in (0, 6, "5", 2.5, True, None):
        check_problem(acme_api.post(path, {"stars": wrong}), 422, "invalid_request")


def test_escalation_sets_the_status_until_it_is_resolved(acme_api: Caller) -> None:
    conversation = acme_api.begin()
    for _ in range(2):
        escalated = acme_api.post(f"/conversations/{conversation}/escalate", {"reason": "Wants a person"})
        assert (escalated.status_code, escalated.json()["status"]) == (200, "escalated")
        check_conversation(escalated.json())
    acme_api.ask(conversation)
    assert acme_api.get(f"/conversations/{conversation}").json()["status"] == "escalated"


def test_a_ticket_lives_30_seconds(acme_api: Caller) -> None:
    answer = acme_api.post(
        "/ws-tickets", {"conversation_id": acme_api.begin(), "origin": "https://shop.example"}
    )
    assert answer.status_code == 201
    assert set(answer.json()) == {"ticket", "expires_in"}
    assert answer.json()["expires_in"] == 30


# --- Models ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("local", "local"),
        ("gpt-4o-mini", "openai"),
        ("openai/gpt-4o-mini", "openai"),
        ("anthropic/sim-fast", "anthropic"),
    ],
)
def test_a_model_answers_by_its_own_name(acme_api: Caller, model: str, provider: str) -> None:
    reply = acme_api.ask(acme_api.begin(model), "Hello", max_tokens=8)["reply"]
    assert (reply["status"], reply["model"], reply["provider"]) == (
        "completed",
        model.split("/")[-1],
        provider,
    )
    assert (float(reply["cost_usd"]) > 0) == (model.endswith("gpt-4o-mini"))


@pytest.mark.parametrize(
    ("model", "code"),
    [
        ("no-such-model", "model_unknown"), ("openai/", "model_unknown"), ("nobody/gpt-4o", "model_unknown"),
        ("gpt-99-imaginary", "model_unpriced"), ("claude-imaginary", "model_unpriced"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("field", ["model", "fallback_model"])
def test_a_model_has_to_exist_and_to_have_a_price(
    acme_api: Caller, field: str, model: str, code: str
) -> None:
    body = check_problem(acme_api.post("/conversations", {field: model}), 422, code)
    assert body["errors"][0]["field"] == "model"


def test_a_fallback_answers_when_the_first_model_fails(acme_api: Caller) -> None:
    conversation = acme_api.begin("sim-fault=error", fallback_model="anthropic/sim-tokens=6")
    reply = acme_api.ask(conversation)["reply"]
    assert (reply["status"], reply["degraded"], reply["provider"]) == ("completed", True, "anthropic")
    assert reply["notice"]
    assert reply["notice"] not in reply["content"]


# --- Failures --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("provider", ["openai", "anthropic"])
@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("error", 502, "provider_error"), ("bad_request", 502, "provider_error"),
        ("unauthorized", 502, "provider_error"), ("truncate", 502, "provider_error"),
        ("malformed@5", 502, "provider_error"),
        ("rate_limit", 503, "provider_unavailable"), ("overloaded", 503, "provider_unavailable"),
        ("overloaded_inside@5", 503, "provider_unavailable"), ("drop@5", 503, "provider_unavailable"),
    ],
)  # fmt: skip
def test_a_failed_reply_is_inside_the_problem(
    acme_api: Caller, provider: str, fault: str, status: int, code: str
) -> None:
    conversation = acme_api.begin(f"{provider}/sim-fault={fault}")
    answer = acme_api.say(conversation, "My secret question")
    body = check_problem(answer, status, code)
    check_reply(body["reply"])
    reply = body["reply"]
    assert (reply["status"], reply["finish_reason"], reply["error"]["code"]) == ("failed", "error", code)
    assert "simulated" not in answer.text.replace("a simulated answer", ""), "the provider's key"
    assert "My secret question" not in reply["error"]["detail"]
    assert acme_api.reply(conversation, reply["id"]) == reply
    assert acme_api.say(conversation).status_code == status, "the conversation goes on"


def test_a_model_that_falls_silent_is_a_504(acme_api: Caller) -> None:
    body = check_problem(acme_api.say(acme_api.begin("sim-fault=stall@3")), 504, "deadline_exceeded")
    assert body["reply"]["error"]["code"] == "deadline_exceeded"
    assert body["reply"]["content"], "what was shown is kept"
