"""Chatting over a WebSocket (CONTRACT §6)."""

from __future__ import annotations

import re
from typing import Any

from django.conf import settings
from redis import Redis
from websockets.exceptions import ConnectionClosed

from chatplatform.testing import cast
from chatplatform.testing.clients import SILENT, SLOW, Caller, Socket, as_event, text_of
from chatplatform.testing.live import Live
from conversations.tests.shapes import check_message, check_reply
from tenants.services import api_keys
from tenants.vocabulary import Scope

PACED = "sim-tokens=60,tps=100"


def refusals(socket: Socket) -> list[dict[str, Any]]:
    """Error frames up to now."""
    return [frame for frame in socket.until("error") if frame["type"] == "error"]


# --- A turn ----------------------------------------------------------------------------------------------------
def test_a_message_is_accepted_and_answered(acme_api: Caller) -> None:
    conversation = acme_api.begin(PACED)
    with acme_api.socket(conversation) as socket:
        socket.say("Hello 👩‍👩‍👧", client_id="mine")
        found = socket.reply()
    assert found[0].kind == "accepted"
    assert set(found[0].data) == {"user_message_id", "reply_id", "client_id"}
    assert found[0].data["client_id"] == "mine"
    assert found[-1].kind == "completed"
    check_reply(found[-1].data["reply"])
    assert text_of(found) == found[-1].data["reply"]["content"]
    assert acme_api.events(conversation, found[0].data["reply_id"]) == found, (
        "the same over SSE, with one cursor"
    )


def test_a_client_id_sent_twice_makes_one_message(acme_api: Caller) -> None:
    conversation = acme_api.begin(PACED)
    with acme_api.socket(conversation) as socket:
        for _ in range(2):
            socket.say("Hello", client_id="once")
        accepted = [frame for frame in socket.until("completed") if frame["type"] == "accepted"]
        if len(accepted) == 1:
            accepted += socket.until("accepted")
        socket.say("Hello", client_id="once")  # and again when all is over
        accepted += socket.until("accepted")
    assert len(accepted) == 3
    assert len({frame["reply_id"] for frame in accepted}) == 1
    assert {frame["client_id"] for frame in accepted} == {"once"}
    assert len(acme_api.get(f"/conversations/{conversation}/messages").json()["results"]) == 2


def test_a_client_id_counts_per_conversation(acme_api: Caller) -> None:
    for conversation in (acme_api.begin(), acme_api.begin()):
        with acme_api.socket(conversation) as socket:
            socket.say(client_id="same")
            assert socket.reply()[-1].kind == "completed"


def test_a_client_id_on_a_new_socket_gets_the_first_answer(acme_api: Caller) -> None:
    conversation = acme_api.begin()
    with acme_api.socket(conversation) as socket:
        socket.say()
        first = socket.reply()
    with acme_api.socket(conversation) as socket:
        socket.say()
        assert socket.reply() == first


def test_use_cache_is_a_choice(acme_api: Caller) -> None:
    with acme_api.socket(acme_api.begin()) as socket:
        socket.say(use_cache=False)
        assert socket.reply()[-1].kind == "completed"


def test_cancel_stops_the_reply(acme_api: Caller) -> None:
    with acme_api.socket(acme_api.begin(SLOW)) as socket:
        socket.say()
        reply = socket.until("delta")[-1]["reply_id"]
        socket.send(type="cancel", reply_id=reply)
        assert socket.reply()[-1].kind == "cancelled"
        socket.send(type="cancel", reply_id=reply)  # changes nothing
        assert socket.echo()["error"]["code"] == "invalid_request"


def test_an_ack_is_taken_in_silence(acme_api: Caller) -> None:
    with acme_api.socket(acme_api.begin()) as socket:
        socket.say()
        last = socket.reply()[-1]
        socket.send(type="ack", reply_id=last.data["reply"]["id"], cursor=last.id)
        socket.send(type="ping")
        assert socket.receive()["type"] == "error", "the answer to ping, and nothing before it"


def test_a_second_message_while_one_is_answered_is_refused(acme_api: Caller) -> None:
    conversation = acme_api.begin(SILENT)
    with acme_api.socket(conversation) as socket:
        socket.say(client_id="one")
        reply = socket.until("accepted")[-1]["reply_id"]
        socket.say(client_id="two")
        (refusal,) = refusals(socket)
        assert (refusal["client_id"], refusal["error"]["code"]) == ("two", "reply_in_progress")
        socket.send(type="cancel", reply_id=reply)
        socket.reply()
        socket.say(client_id="two")
        reply = socket.until("accepted")[-1]["reply_id"]
        socket.send(type="cancel", reply_id=reply)
        assert socket.reply()[-1].kind == "cancelled"


# --- Resuming --------------------------------------------------------------------------------------------------
def test_it_resumes_on_a_new_socket_after_the_last_cursor(acme_api: Caller) -> None:
    conversation = acme_api.begin(PACED)
    with acme_api.socket(conversation) as socket:
        socket.say()
        seen = [as_event(frame) for frame in socket.until("delta", where=lambda frame: True)]
    with acme_api.socket(conversation) as socket:
        socket.send(type="resume", reply_id=seen[0].data["reply_id"], after=seen[-1].id)
        seen += socket.reply()
    assert seen == acme_api.events(conversation, seen[0].data["reply_id"])


def test_it_resumes_from_the_start_without_a_cursor(acme_api: Caller) -> None:
    conversation = acme_api.begin()
    first = acme_api.stream(conversation)
    for after in ({}, {"after": None}, {"after": ""}, {"after": "0-0"}):
        with acme_api.socket(conversation) as socket:
            socket.send(type="resume", reply_id=first[0].data["reply_id"], **after)
            assert socket.reply() == first


def test_it_resumes_on_the_same_socket(acme_api: Caller) -> None:
    with acme_api.socket(acme_api.begin()) as socket:
        socket.say()
        first = socket.reply()
        socket.send(type="resume", reply_id=first[0].data["reply_id"], after=first[0].id)
        assert socket.reply() == first[1:]


def test_resuming_after_the_last_event_tells_nothing(acme_api: Caller) -> None:
    with acme_api.socket(acme_api.begin()) as socket:
        socket.say()
        last = socket.reply()[-1]
        socket.send(type="resume", reply_id=last.data["reply_id"], after=last.id)
        socket.send(type="ping")
        assert socket.receive()["type"] == "error"


def test_a_reply_under_way_reaches_a_socket_that_comes_late(acme_api: Caller) -> None:
    conversation = acme_api.begin("sim-tokens=200,tps=50")
    reply = acme_api.start(conversation)
    with acme_api.socket(conversation) as socket:
        frames = socket.until("delta")
        assert frames[-1]["reply_id"] == reply
        socket.send(type="cancel", reply_id=reply)
        found = [as_event(frame) for frame in frames] + socket.reply()
    assert text_of(found) == found[-1].data["reply"]["content"]


def test_a_log_that_is_lost_is_told_again_with_a_reset(acme_api: Caller) -> None:
    conversation = acme_api.begin("sim-tokens=80,tps=60")
    with acme_api.socket(conversation) as socket, Redis.from_url(settings.EVENT_LOG_URL) as valkey:
        socket.say()
        frames = socket.until("delta")
        keys = list(valkey.scan_iter(f"*{frames[-1]['reply_id']}*"))
        assert valkey.delete(*keys) > 0
        found = [as_event(frame) for frame in frames] + socket.reply()
    assert "reset" in [event.kind for event in found]
    assert text_of(found) == found[-1].data["reply"]["content"]


def test_a_reply_whose_log_is_gone_is_resumed_from_the_database(acme_api: Caller) -> None:
    conversation = acme_api.begin()
    first = acme_api.stream(conversation)
    reply = first[0].data["reply_id"]
    with Redis.from_url(settings.EVENT_LOG_URL) as valkey:
        valkey.delete(*valkey.scan_iter(f"*{reply}*"))
    with acme_api.socket(conversation) as socket:
        socket.send(type="resume", reply_id=reply, after=first[1].id)
        found = socket.reply()
    assert [event.kind for event in found] == ["reset", "delta", "completed"]
    assert text_of(found) == found[-1].data["reply"]["content"]


# --- Others in the conversation --------------------------------------------------------------------------------
def test_what_comes_over_rest_arrives_too(acme_api: Caller) -> None:
    conversation = acme_api.begin()
    with acme_api.socket(conversation) as socket:
        turn = acme_api.ask(conversation, "Over REST")
        frames = socket.until("completed")
    messages = [frame for frame in frames if frame["type"] == "message"]
    assert messages == [{"type": "message", "message": turn["user_message"]}]
    check_message(messages[0]["message"])
    assert frames[-1]["reply"] == turn["reply"]
    assert text_of([as_event(frame) for frame in frames if "cursor" in frame]) == turn["reply"]["content"]


def test_two_sockets_see_the_same_reply_and_each_others_messages(acme_api: Caller) -> None:
    conversation = acme_api.begin(PACED)
    with acme_api.socket(conversation) as one, acme_api.socket(conversation) as other:
        one.say("From one", client_id="a")
        mine, theirs = one.until("completed"), other.until("completed")
    assert [frame for frame in mine if frame["type"] == "message"] == []
    assert [frame["message"]["content"] for frame in theirs if frame["type"] == "message"] == ["From one"]
    assert [frame for frame in theirs if frame["type"] != "message"] == mine


def test_a_conversation_is_not_told_of_another(acme_api: Caller) -> None:
    with acme_api.socket(acme_api.begin()) as socket:
        acme_api.ask(acme_api.begin())
        socket.send(type="ping")
        assert socket.receive()["type"] == "error"


# --- Frames that are refused, and closing -----------------------------------------------------------------------
def test_a_refused_frame_leaves_the_socket_open(acme_api: Caller) -> None:
    with acme_api.socket(acme_api.begin()) as socket:
        socket.say("", client_id="empty")
        (refusal,) = refusals(socket)
        assert set(refusal) == {"type", "client_id", "error"}
        assert refusal["client_id"] == "empty"
        assert refusal["error"]["code"] == "invalid_request"
        assert refusal["error"]["errors"][0]["field"] == "content"
        socket.say(client_id="empty")
        assert socket.reply()[-1].kind == "completed"


def test_another_conversations_reply_is_not_found(acme_api: Caller, globex_api: Caller) -> None:
    others = acme_api.ask(acme_api.begin())["reply"]["id"]
    foreign = globex_api.ask(globex_api.begin())["reply"]["id"]
    with acme_api.socket(acme_api.begin()) as socket:
        for reply in (others, foreign):
            for kind in ("resume", "cancel"):
                socket.send(type=kind, reply_id=reply)
                assert refusals(socket)[-1]["error"]["code"] == "not_found"


def test_malformed_frames_are_refused_and_at_last_closed(acme_api: Caller) -> None:
    with acme_api.socket(acme_api.begin()) as socket:
        for frame in ("{", "[]", '"text"', "1", "null", "", b"\x00\x01", "\x00", "{" * 2000):
            socket.raw(frame)
            (refusal,) = refusals(socket)
            assert refusal["error"]["code"] == "malformed"
        socket.say()
        assert socket.reply()[-1].kind == "completed"
        for _ in range(20):
            socket.raw("{")
        assert socket.close_code() == 4400


def test_a_revoked_key_closes_its_sockets_only(live: Live, acme_api: Caller, committed: None) -> None:
    shown = cast.key("acme", Scope.CHAT)
    revoked = Caller(live, shown)
    with revoked.socket(revoked.begin()) as socket, acme_api.socket(acme_api.begin()) as other:
        api_keys.revoke(shown.split("_")[2])
        assert socket.close_code() == 4401
        other.say()
        assert other.reply()[-1].kind == "completed"


def test_a_burst_is_refused_and_disturbs_nobody(acme_api: Caller) -> None:
    frame = '{"type":"ack","reply_id":"x","cursor":"1-0"}'
    with acme_api.socket(acme_api.begin()) as quiet, acme_api.socket(acme_api.begin()) as loud:
        code = burst(loud, frame)
        quiet.say()
        assert quiet.reply()[-1].kind == "completed"
    assert code == 4429


def burst(socket: Socket, frame: str) -> int | None:
    """10,000 frames as fast as they go, or until the server has closed."""
    try:
        for _ in range(10_000):
            socket.raw(frame)
    except ConnectionClosed:
        return socket.connection.close_code
    return socket.close_code()


def test_cursors_are_opaque_words(acme_api: Caller) -> None:
    with acme_api.socket(acme_api.begin()) as socket:
        socket.say()
        assert all(re.fullmatch(r"[\x21-\x7e]{1,64}", event.id) for event in socket.reply())
