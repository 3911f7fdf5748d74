"""Idempotency-Key: one request, however often it is sent (CONTRACT §5)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import IntegrityError, connection
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory

from chatplatform import tenancy
from chatplatform.api.parsers import JSONParser
from chatplatform.api.problem import Code, Problem
from chatplatform.testing import cast
from chatplatform.testing.clients import FAST, SILENT, SLOW, Caller, text_of
from chatplatform.testing.live import Live
from tenants import tasks
from tenants.api import idempotency
from tenants.api.base import ApiView
from tenants.auth.principal import Principal
from tenants.models import Contact, PlatformIdempotencyRecord, TenantIdempotencyRecord
from tenants.selectors import TenantState
from tenants.vocabulary import Scope


@pytest.fixture
def once() -> dict[str, str]:
    """The header, with a new key."""
    return {"Idempotency-Key": str(uuid4())}


def replayed(answer: Any) -> bool:
    return bool(answer.headers.get("Idempotent-Replayed") == "true")


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_a_repeated_post_gets_the_first_answer(acme_api: Caller, once: dict[str, str]) -> None:
    first, second = (acme_api.post("/conversations", {"model": FAST}, headers=once) for _ in range(2))
    assert (first.status_code, first.json()) == (second.status_code, second.json())
    assert (replayed(first), replayed(second)) == (False, True)


def test_the_order_of_fields_does_not_matter(acme_api: Caller, once: dict[str, str]) -> None:
    acme_api.post("/conversations", {"model": FAST, "channel": "x"}, headers=once)
    assert replayed(acme_api.post("/conversations", {"channel": "x", "model": FAST}, headers=once))


def test_another_body_under_the_same_key_is_a_mismatch(acme_api: Caller, once: dict[str, str]) -> None:
    acme_api.post("/conversations", {"model": FAST}, headers=once)
    answer = acme_api.post("/conversations", {"model": "local"}, headers=once)
    assert code(answer) == (422, "idempotency_mismatch")


def test_a_key_counts_per_path(acme_api: Caller, once: dict[str, str]) -> None:
    one, other = acme_api.begin(), acme_api.begin()
    answers = [acme_api.post(f"/conversations/{each}/resolve", headers=once) for each in (one, other)]
    assert [answer.json()["id"] for answer in answers] == [one, other]
    assert not any(replayed(answer) for answer in answers)


def test_a_key_counts_per_credential(live: Live, acme_api: Caller, once: dict[str, str]) -> None:
    colleague = Caller(live, cast.key("acme", Scope.CHAT))
    answers = [caller.post("/conversations", headers=once) for caller in (acme_api, colleague)]
    assert answers[0].json()["id"] != answers[1].json()["id"]


def test_a_refusal_is_replayed_too(acme_api: Caller, once: dict[str, str]) -> None:
    conversation = acme_api.begin()
    path = f"/conversations/{conversation}/rating"
    first, second = (acme_api.post(path, {"stars": 9}, headers=once) for _ in range(2))
    assert code(first) == code(second) == (422, "invalid_request")
    assert (replayed(first), replayed(second)) == (False, True)
    assert second.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("body", [{"content": ""}, {"content": "x" * 100_001}, {"content": 5}, {}])
def test_a_refused_message_is_replayed_too(
    acme_api: Caller, once: dict[str, str], body: dict[str, Any]
) -> None:
    path = f"/conversations/{acme_api.begin()}/messages"
    first, second = (acme_api.post(path, body, headers=once) for _ in range(2))
    assert first.status_code == second.status_code in (413, 422)
    assert (replayed(first), replayed(second)) == (False, True)


def test_what_does_not_exist_for_a_key_is_replayed_as_well(acme_api: Caller, once: dict[str, str]) -> None:
    path = f"/conversations/{uuid4()}/messages"
    first, second = (acme_api.post(path, {"content": "Hello"}, headers=once) for _ in range(2))
    assert code(first) == code(second) == (404, "not_found")
    assert replayed(second)


def test_a_conflict_is_not_kept(acme_api: Caller, once: dict[str, str]) -> None:
    conversation = acme_api.begin(SILENT)
    reply = acme_api.start(conversation)
    assert code(acme_api.say(conversation, headers=once)) == (409, "reply_in_progress")
    acme_api.stop(conversation, reply)
    with acme_api.streaming(conversation, **once) as events:
        again = next(events).data["reply_id"]
    assert again != reply
    acme_api.stop(conversation, again)


def test_a_message_is_answered_once(acme_api: Caller, once: dict[str, str]) -> None:
    conversation = acme_api.begin()
    first, second = (acme_api.say(conversation, headers=once) for _ in range(2))
    assert first.json() == second.json()
    assert (replayed(first), replayed(second)) == (False, True)
    assert len(acme_api.get(f"/conversations/{conversation}/messages").json()["results"]) == 2


def test_a_failed_reply_is_replayed_as_it_was(acme_api: Caller, once: dict[str, str]) -> None:
    """The turn was accepted and is stored: a repeat must not have it generated (and paid) again."""
    conversation = acme_api.begin("sim-fault=bad_request")
    first, second = (acme_api.say(conversation, headers=once) for _ in range(2))
    assert code(first) == code(second) == (502, "provider_error")
    assert first.json()["reply"] == second.json()["reply"]
    assert len(acme_api.get(f"/conversations/{conversation}/messages").json()["results"]) == 2


def test_a_message_that_is_still_running_is_in_progress(acme_api: Caller, once: dict[str, str]) -> None:
    conversation = acme_api.begin(SILENT)
    with acme_api.streaming(conversation, **once) as events:
        reply = next(events).data["reply_id"]
        body = {"content": "Hello", "stream": True}
        path = f"/conversations/{conversation}/messages"
        assert code(acme_api.post(path, {**body, "stream": False}, headers=once)) == (
            422,
            "idempotency_mismatch",
        )
        acme_api.stop(conversation, reply)


def test_the_same_unstreamed_message_at_once_is_in_progress(
    live: Live, acme_api: Caller, once: dict[str, str]
) -> None:
    conversation = acme_api.begin(SILENT)
    with ThreadPoolExecutor(1) as pool, acme_api.socket(conversation) as socket:
        waiting = pool.submit(acme_api.say, conversation, headers=once)
        reply = socket.until("accepted")[-1]["reply_id"]
        assert code(acme_api.say(conversation, headers=once)) == (409, "idempotency_in_progress")
        acme_api.stop(conversation, reply)
        assert waiting.result().json()["reply"]["status"] == "cancelled"
    assert replayed(acme_api.say(conversation, headers=once))


def test_a_repeated_stream_attaches_to_the_running_reply(acme_api: Caller, once: dict[str, str]) -> None:
    conversation = acme_api.begin(SLOW)
    with acme_api.streaming(conversation, **once) as events:
        first = [next(events), next(events)]
        with acme_api.streaming(conversation, **once) as attached:
            assert [next(attached), next(attached)] == first
            acme_api.cancel(conversation, first[0].data["reply_id"])
            seen, seen_again = first + list(events), first + list(attached)
    assert text_of(seen) == text_of(seen_again) == seen[-1].data["reply"]["content"]


def test_a_repeated_stream_of_a_finished_reply_tells_it_again(acme_api: Caller, once: dict[str, str]) -> None:
    conversation = acme_api.begin()
    assert acme_api.stream(conversation, **once) == acme_api.stream(conversation, **once)


def test_two_at_once_begin_one_conversation(acme_api: Caller, once: dict[str, str]) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: acme_api.post("/conversations", headers=once), range(8)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 201}) == 1


@pytest.mark.parametrize("key", ["", "x" * 201])
def test_a_key_has_a_length(acme_api: Caller, key: str) -> None:
    answer = acme_api.post("/conversations", headers={"Idempotency-Key": key})
    assert code(answer) == (422, "invalid_request")


def test_tickets_are_never_replayed(acme_api: Caller, once: dict[str, str]) -> None:
    body = {"conversation_id": acme_api.begin()}
    first, second = (acme_api.post("/ws-tickets", body, headers=once).json()["ticket"] for _ in range(2))
    assert first != second


# --- What goes wrong between the request and its answer ------------------------------------------------------------
def asked(key: str) -> tuple[Principal, Request]:
    """A caller and its request, as a view sees them."""
    request = APIRequestFactory().post("/x", {}, format="json", headers={"Idempotency-Key": key})
    return Principal("key:test", frozenset({Scope.CHAT}), None), Request(request, parsers=[JSONParser()])


def test_a_request_and_its_answer_are_stored_together_or_not_at_all(in_acme: TenantState) -> None:
    record, _ = idempotency.claim(*asked("halfway"))

    def handle() -> Response:
        Contact.objects.create(external_id="halfway")
        return Response(object())  # an answer that cannot be stored

    answer = idempotency.keep(record, handle, lambda error: Response({}, status=500))
    assert answer.status_code == 500
    assert not Contact.objects.filter(external_id="halfway").exists()
    assert idempotency.claim(*asked("halfway"))[1]  # and the key is free again


def test_a_refusal_leaves_nothing_but_itself(in_acme: TenantState) -> None:
    record, _ = idempotency.claim(*asked("refused"))

    def handle() -> Response:
        Contact.objects.create(external_id="refused")
        raise Problem(Code.NOT_FOUND)

    idempotency.keep(record, handle, lambda error: Response({}, status=404))
    assert not Contact.objects.filter(external_id="refused").exists()
    replayed_answer = idempotency.begin(*asked("refused"))[1]
    assert replayed_answer is not None
    assert replayed_answer.status_code == 404


def test_a_process_that_dies_on_the_way_leaves_no_key_behind(in_acme: TenantState) -> None:
    """What nobody will ever answer must not keep its caller waiting."""

    def die(request: Request) -> Response:
        raise SystemExit

    view = ApiView()
    principal, request = asked("dying")
    request.user = principal  # type: ignore[assignment]
    view.request, view.platform_wide = request, False
    with pytest.raises(SystemExit):
        view._once(die, request)
    assert not TenantIdempotencyRecord.objects.filter(key="dying").exists()


def test_a_record_that_goes_meanwhile_is_in_progress(
    in_acme: TenantState, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(**values: Any) -> None:
        raise IntegrityError  # and when one looks, whose it was has gone

    monkeypatch.setattr(TenantIdempotencyRecord.objects, "create", lost)
    with pytest.raises(Problem) as caught:
        idempotency.begin(*asked("gone"))
    assert caught.value.code is Code.IDEMPOTENCY_IN_PROGRESS


def test_answers_are_forgotten_after_24_hours(acme: TenantState) -> None:
    def keep(kind: Any, key: str, hours: float) -> None:
        row = kind.objects.create(credential="c", path="/p", key=key, body_hash=b"", status=200, answer={})
        kind.objects.filter(pk=row.pk).update(created_at=timezone.now() - timedelta(hours=hours))

    for enter, kind in (
        (tenancy.in_tenant(acme.ref), TenantIdempotencyRecord),
        (tenancy.in_platform(), PlatformIdempotencyRecord),
    ):
        with enter:
            keep(kind, "old", 24.1)
            keep(kind, "young", 23.9)
    tasks.expire_idempotency_records()
    with tenancy.in_tenant(acme.ref):
        assert list(TenantIdempotencyRecord.objects.filter(path="/p").values_list("key", flat=True)) == [
            "young"
        ]
    with tenancy.in_platform():
        assert list(PlatformIdempotencyRecord.objects.filter(path="/p").values_list("key", flat=True)) == [
            "young"
        ]
    assert connection.in_atomic_block
