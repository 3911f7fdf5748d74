"""Whatever is sent, the answer is a clear refusal: nothing is lost, nothing else is disturbed, and never a 500."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any
from uuid import uuid4

import pytest

from chatplatform.testing.clients import FAST, SILENT, Caller
from conversations.tests.shapes import check_problem

NOBODY = "00000000-0000-7000-8000-000000000000"
FAMILY = "👩‍👩‍👧"
GOOD = [
    "x", " leading and trailing ", "line\nbreak\ttab\r\n", "\u202eright to left\u202c שלום مرحبا", FAMILY * 100,
    "é" * 50_000, "x" * 100_000, "\ufeffmark", "a\u2028b\u2029", "\U0010ffff\ufffe", "<script>alert(1)</script>",
    "'; DROP TABLE conversations_message; --", "%s %(x)s {0} {tenant} {{x}} ${x}", "\\u0000 \\", "NaN", "0", "null",
]  # fmt: skip
WRONG_CONTENT = [
    "", "\u2028\u2029", " ", "\n\t ", "\u00a0\u2003", "a\x00b", "\x1b[31m", "\x7f", "\x08", 5, 1.5, True, None,
    [], {}, ["x"], {"text": "x"},
]  # fmt: skip


@pytest.fixture(scope="module")
def conversation(acme_api: Caller) -> str:
    return acme_api.begin("sim-tokens=3")


def count(api: Caller, conversation: str) -> int:
    return len(
        api.get(f"/conversations/{conversation}/messages", params={"page_size": 200}).json()["results"]
    )


# --- Content ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("content", GOOD, ids=lambda content: ascii(content)[:24])
def test_any_text_makes_the_round_trip(acme_api: Caller, content: str) -> None:
    conversation = acme_api.begin("sim-tokens=3")
    assert acme_api.ask(conversation, content)["user_message"]["content"] == content
    stored = acme_api.get(f"/conversations/{conversation}/messages").json()["results"][0]
    assert stored["content"] == content


@pytest.mark.parametrize(
    "content", [text for text in GOOD if len(text) < 1000], ids=lambda content: ascii(content)[:24]
)
def test_any_text_makes_the_round_trip_over_websocket(acme_api: Caller, content: str) -> None:
    conversation = acme_api.begin("sim-tokens=3")
    with acme_api.socket(conversation) as socket, acme_api.socket(conversation) as other:
        socket.say(content, client_id=f"{FAMILY} {content[:20]}")
        assert socket.until("accepted")[-1]["client_id"] == f"{FAMILY} {content[:20]}"
        assert other.until("message")[-1]["message"]["content"] == content
        assert socket.reply()[-1].kind == "completed"


@pytest.mark.parametrize("content", WRONG_CONTENT, ids=lambda content: ascii(content)[:24])
def test_what_is_no_text_is_refused_at_every_door(acme_api: Caller, conversation: str, content: Any) -> None:
    before = count(acme_api, conversation)
    body = check_problem(acme_api.say(conversation, content), 422, "invalid_request")
    assert body["errors"][0]["field"] == "content"
    with acme_api.socket(conversation) as socket:
        socket.say(content, client_id="x")
        error = socket.until("error")[-1]["error"]
        assert (error["code"], error["errors"][0]["field"]) == ("invalid_request", "content")
    assert count(acme_api, conversation) == before


@pytest.mark.parametrize(
    "content", ["x" * 100_001, "é" * 50_001, FAMILY * 6000], ids=["ascii", "accents", "emoji"]
)
def test_too_much_text_is_413_at_every_door(acme_api: Caller, conversation: str, content: str) -> None:
    check_problem(acme_api.say(conversation, content), 413, "too_large")
    with acme_api.socket(conversation) as socket:
        socket.say(content)
        assert socket.until("error")[-1]["error"]["code"] == "too_large"
        socket.say("Still open", client_id=str(uuid4()))
        assert socket.reply()[-1].kind == "completed"


@pytest.mark.parametrize("size", [1_000_001, 3_000_000])
def test_a_huge_body_is_413(acme_api: Caller, conversation: str, size: int) -> None:
    check_problem(acme_api.say(conversation, "x" * size), 413, "too_large")
    check_problem(acme_api.post("/conversations", {"channel": "x" * size}), 413, "too_large")


# --- Bodies ----------------------------------------------------------------------------------------------------
BODIES: list[tuple[bytes, int]] = [
    (b"{", 400), (b"content=x", 400), (b'{"content": "\\ud800"}', 400), (b'{"content": "\xff\xfe"}', 400),
    (b'{"content": NaN}', 400), (b'\x00\x01\x02', 400), (b'{"content": "a\x00b"}', 400), (b"{'content': 'x'}", 400),
    (b'{"content": "x",}', 400), (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, 400), (b"[" * 100_000, 400),
    (b"[]", 422), (b'"x"', 422), (b"1", 422), (b"null", 422), (b"", 422), (b"{}", 422),
    (b'{"content": 1e999}', 400), (b'{"content": ' + b"9" * 5000 + b"}", 400),
    (b'{"content":' + b'{"a":' * 600 + b"1" + b"}" * 600 + b"}", 400),
    (b'{"content":' + b'{"a":' * 200 + b"1" + b"}" * 200 + b"}", 422),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status"), BODIES, ids=lambda value: repr(value)[:24])
@pytest.mark.parametrize("idempotent", [False, True], ids=["", "idempotent"])
def test_a_wrong_body_is_refused(
    acme_api: Caller, conversation: str, body: bytes, status: int, idempotent: bool
) -> None:
    headers = {
        "Content-Type": "application/json",
        **({"Idempotency-Key": str(uuid4())} if idempotent else {}),
    }
    path = f"/conversations/{conversation}/messages"
    answer = acme_api.http.post(path, content=body, headers=headers)
    check_problem(answer, status, "malformed" if status == 400 else "invalid_request")


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "x",
        "application/xml",
    ],
)
@pytest.mark.parametrize("path", ["/conversations", "/conversations/{}/messages", "/ws-tickets"])
def test_another_content_type_is_415(acme_api: Caller, conversation: str, path: str, kind: str) -> None:
    answer = acme_api.http.post(
        path.format(conversation), content=b'{"content": "x"}', headers={"Content-Type": kind}
    )
    check_problem(answer, 415, "unsupported_media_type")


def test_a_form_is_415(acme_api: Caller, conversation: str) -> None:
    for more in ({"files": {"content": b"x"}}, {"data": {"content": "x"}}):
        answer = acme_api.http.post(f"/conversations/{conversation}/messages", **more)
        check_problem(answer, 415, "unsupported_media_type")


def test_json_may_say_its_charset(acme_api: Caller) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    assert acme_api.http.post("/conversations", content=b"{}", headers=headers).status_code == 201


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "BREW"])
@pytest.mark.parametrize(
    "path", ["/conversations", "/conversations/{}", "/conversations/{}/messages", "/ws-tickets"]
)
def test_another_method_is_405(acme_api: Caller, conversation: str, path: str, method: str) -> None:
    answer = acme_api.http.request(method, path.format(conversation))
    check_problem(answer, 405, "method_not_allowed")
    assert "POST" in answer.headers["Allow"] or "GET" in answer.headers["Allow"]


@pytest.mark.parametrize("accept", ["text/html", "image/*", "application/xml", "nonsense"])
@pytest.mark.parametrize("path", ["/conversations", "/conversations/{}/messages", "/conversations/{}"])
def test_another_accept_is_406(acme_api: Caller, conversation: str, path: str, accept: str) -> None:
    answer = acme_api.get(path.format(conversation), headers={"Accept": accept})
    check_problem(answer, 406, "not_acceptable")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/nothing",
        "/conversations/",
        "/conversations/x",
        "/conversations/{}/",
        "/tenants/a b",
        "/tenants/%00",
    ],
)
def test_another_path_is_404(acme_api: Caller, conversation: str, path: str) -> None:
    check_problem(acme_api.get(path.format(conversation)), 404, "not_found")


# --- Fields ----------------------------------------------------------------------------------------------------
DEEP: Any = 1
for _ in range(300):
    DEEP = {"a": DEEP}
FIELDS: list[tuple[str, str, list[Any]]] = [
    ("/conversations", "model", [5, True, [], {}, "", "x" * 201, "a\x00"]),
    (
        "/conversations",
        "fallback_model",
        [5, True, {}, "", [""], [5], [None], ["local"] * 11, "x" * 201, "a\x00"],
    ),
    ("/conversations", "temperature", [-0.1, 2.1, "1", True, [], 1e300]),
    ("/conversations", "system_prompt", [5, [], "a\x00", "x" * 100_001]),
    ("/conversations", "channel", [5, [], "", "x" * 41, "a\x00", None]),
    ("/conversations", "metadata", [5, "x", [], {"a": "x" * 17_000}, {"a": "\x00"}, {"\x00": 1}, DEEP, None]),
    ("/conversations", "end_user", [5, True, [], {}, "", "x" * 201, "a\x00", {"external_id": 5}]),
    (
        "/conversations",
        "end_user",
        [{"external_id": "u", "email": "x"}, {"external_id": "u", "attributes": 5}],
    ),
    (
        "/conversations",
        "end_user",
        [
            {"external_id": "u", "name": "a\x00"},
            {"external_id": "u", "name": "a\nb"},
            {"external_id": "u", "attributes": DEEP},
        ],
    ),
    ("/conversations/{}/messages", "stream", ["true", 1, None, []]),
    ("/conversations/{}/messages", "use_cache", ["true", 0, None, {}]),
    ("/conversations/{}/messages", "max_tokens", [0, -1, "5", 1.5, True, 2**64, []]),
    ("/conversations/{}/messages", "tools", ["x", {}, [5], [""], ["x"] * 51, ["x" * 101], ["a\x00"], [None]]),
    ("/conversations/{}/messages/{}/feedback", "rating", ["sideways", 5, None, [], {}, ["up"]]),
    ("/conversations/{}/messages/{}/feedback", "comment", [5, [], "x" * 4001, "a\x00"]),
    ("/conversations/{}/rating", "stars", [0, 6, "5", 5.0, True, None, [], {}]),
    ("/conversations/{}/rating", "comment", [5, {}, "x" * 4001]),
    ("/conversations/{}/escalate", "reason", [5, [], "x" * 4001, "a\x00"]),
    ("/ws-tickets", "conversation_id", [5, None, "x", [], {}, ""]),
    ("/ws-tickets", "origin", [5, [], "shop", "x" * 301, "https://x\x00"]),
]
WRONG = [(path, field, value) for path, field, values in FIELDS for value in values]


@pytest.fixture(scope="module")
def answered(acme_api: Caller) -> tuple[str, str]:
    conversation = acme_api.begin()
    return conversation, acme_api.ask(conversation)["reply"]["id"]


@pytest.mark.parametrize(("path", "field", "value"), WRONG, ids=lambda value: ascii(value)[:24])
def test_a_wrong_value_names_its_field(
    acme_api: Caller, answered: tuple[str, str], path: str, field: str, value: Any
) -> None:
    right = {"content": "x", "rating": "up", "stars": 5, "conversation_id": answered[0]}
    answer = acme_api.post(path.format(*answered), {**right, field: value})
    if answer.status_code == 400:  # deeper than any JSON that means something
        check_problem(answer, 400, "malformed")
        return
    if field in ("model", "fallback_model") and answer.json()["code"] == "model_unknown":
        assert answer.status_code == 422
        return
    body = check_problem(answer, 422, "invalid_request")
    assert body["errors"][0]["field"].split(".")[0] == field


@pytest.mark.parametrize("position", ["abc", "\x00", "1", "'", "é" * 50, NOBODY])
def test_a_forged_cursor_is_no_server_error(acme_api: Caller, conversation: str, position: str) -> None:
    for forged in (f"p={position}", f"o=1&r=1&p={position}", f"o={10**30}", "o=-1", "o=x"):
        cursor = base64.b64encode(forged.encode()).decode()
        for path in ("/conversations", f"/conversations/{conversation}/messages"):
            answer = acme_api.get(path, params={"cursor": cursor})
            assert answer.status_code in (200, 422), answer.text


@pytest.mark.parametrize(
    "name", ["Idempotency-Key", "X-Request-ID", "X-Tenant-ID", "Last-Event-ID", "Accept-Language", "Cookie"]
)
@pytest.mark.parametrize("value", [b"\xff\xfe", b"x" * 5000, b"'; --", "é".encode(), b"%00"])
def test_an_odd_header_is_no_server_error(
    acme_api: Caller, conversation: str, name: str, value: bytes
) -> None:
    given = [(name.encode(), value), (b"authorization", acme_api.headers["Authorization"].encode())]
    for method, path in (("POST", "/conversations"), ("POST", f"/conversations/{conversation}/escalate")):
        answer = acme_api.http.request(method, path, json={}, headers=given)
        assert answer.status_code < 500, answer.text
        assert len(answer.headers["X-Request-ID"]) <= 64


# --- Frames ----------------------------------------------------------------------------------------------------
FRAMES: list[dict[str, Any]] = [
    {}, {"type": None}, {"type": 5}, {"type": []}, {"type": "nothing"}, {"type": "__class__"},
    {"type": "message"}, {"type": "message", "content": "x"}, {"type": "message", "content": "x", "client_id": 5},
    {"type": "message", "content": "x", "client_id": ""}, {"type": "message", "content": "x", "client_id": "c" * 129},
    {"type": "message", "content": "x", "client_id": "a\x00b"}, {"type": "message", "content": "x", "client_id": []},
    {"type": "message", "content": "x", "client_id": "c", "use_cache": "no"}, {"type": "resume"},
    {"type": "resume", "reply_id": 5}, {"type": "resume", "reply_id": "x"}, {"type": "resume", "reply_id": NOBODY},
    {"type": "resume", "reply_id": NOBODY, "after": 5}, {"type": "resume", "reply_id": NOBODY, "after": "x"},
    {"type": "resume", "reply_id": NOBODY, "after": "9" * 60 + "-0"}, {"type": "resume", "reply_id": []},
    {"type": "cancel"}, {"type": "cancel", "reply_id": {}}, {"type": "cancel", "reply_id": NOBODY},
]  # fmt: skip


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: ascii(frame)[:48])
def test_a_wrong_frame_is_refused(acme_api: Caller, frame: dict[str, Any]) -> None:
    conversation = acme_api.begin("sim-tokens=3")
    with acme_api.socket(conversation) as socket:
        socket.send(**frame)
        refusal = socket.receive()
        assert refusal["type"] == "error", refusal
        assert refusal["error"]["status"] in (404, 422)
        socket.say("Still here", client_id="good")
        assert socket.reply()[-1].kind == "completed"
    assert count(acme_api, conversation) == 2


def test_half_a_surrogate_pair_is_malformed_in_a_frame_too(acme_api: Caller, conversation: str) -> None:
    with acme_api.socket(conversation) as socket:
        socket.raw('{"type": "message", "content": "\\ud83d", "client_id": "x"}')
        assert socket.receive()["error"]["code"] == "malformed"


def test_a_huge_frame_is_refused(acme_api: Caller, conversation: str) -> None:
    with acme_api.socket(conversation) as socket:
        socket.raw(json.dumps({"type": "message", "content": "x" * 900_000, "client_id": "x"}))
        assert socket.receive()["error"]["code"] == "too_large"


# --- Two at once -----------------------------------------------------------------------------------------------
def test_of_two_messages_at_once_one_is_accepted(acme_api: Caller) -> None:
    conversation = acme_api.begin(SILENT)
    with ThreadPoolExecutor(6) as pool, acme_api.socket(conversation) as socket:
        waiting = [pool.submit(acme_api.say, conversation, f"Message {i}") for i in range(5)]
        socket.say("From the socket")
        reply = socket.until("accepted")[-1]["reply_id"]
        answered = as_completed(waiting)
        for _ in range(4):  # all but the one that was accepted, which may be the socket's
            next(answered)
        acme_api.stop(conversation, reply)
        statuses = sorted(one.result().status_code for one in waiting)
    assert statuses in ([200, 409, 409, 409, 409], [409] * 5)
    assert count(acme_api, conversation) == 2


def test_many_conversations_at_once_are_all_answered(acme_api: Caller) -> None:
    conversations = [acme_api.begin(FAST) for _ in range(12)]
    with ThreadPoolExecutor(12) as pool:
        turns = list(pool.map(lambda one: acme_api.ask(one, f"From {one}"), conversations))
    assert all(
        f"From {one}" in turn["reply"]["content"] for one, turn in zip(conversations, turns, strict=True)
    )
