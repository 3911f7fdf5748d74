"""Accepting a message: what it costs, and in what order it is handed over."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from celery import current_app
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoCaptureOnCommitCallbacks
from redis.exceptions import RedisError

from chatplatform import jobs, tenancy, valkey
from chatplatform.api.problem import Code, Problem
from chatplatform.observability.context import request_id
from chatplatform.testing import cast
from chatplatform.testing.clients import SILENT
from chatplatform.testing.stage import until
from conversations.models import Conversation, Reply
from conversations.services import conversations, turns
from conversations.streaming import announcement, event_log
from conversations.streaming.events import Event
from tenants.auth.principal import Principal
from tenants.selectors import TenantState

KEY = Principal("key:test", frozenset({"chat"}), None)


def logged(conversation_id: UUID, reply_id: UUID | str) -> list[tuple[str, Any]]:
    """What stands in a reply's log: kind and data of each event."""
    rows = announcement.client().xrange(event_log.address(conversation_id, reply_id).log)
    return [(entry[b"k"].decode(), orjson.loads(entry[b"d"])) for _, entry in rows]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch, in_acme: TenantState) -> list[dict[str, Any]]:
    """The jobs that would have been sent, with what was in their reply's log by then."""
    seen: list[dict[str, Any]] = []

    def enqueue(task: str, reply_id: str, **more: Any) -> bool:
        [conversation_id] = Conversation.objects.filter(replies=UUID(reply_id)).values_list("id", flat=True)
        seen.append({"task": task, "reply": reply_id, "log": logged(conversation_id, reply_id), **more})
        return True

    monkeypatch.setattr(jobs, "enqueue", enqueue)
    monkeypatch.setattr(jobs, "packed", lambda *_, **__: None)
    return seen


@pytest.fixture
def freshclient() -> Iterator[None]:
    """A client of the settings that the test makes."""
    announcement.client.cache_clear()
    yield
    announcement.client.cache_clear()
    announcement._valkey.answered()


def test_a_turn_takes_two_statements(in_acme: TenantState, sent: list[dict[str, Any]]) -> None:
    conversation = conversations.begin()
    turns.accept(KEY, conversation.pk, "Once, so that all is known that is kept")
    other = conversations.begin()
    with CaptureQueriesContext(connection) as captured:
        turns.accept(KEY, other.pk, "Hello")
    kinds = [query["sql"].split()[0] for query in captured]
    assert kinds == ["SELECT", "WITH"]


def test_the_log_begins_before_the_job_is_sent(
    in_acme: TenantState,
    sent: list[dict[str, Any]],
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    conversation = conversations.begin()
    token = request_id.set("r-1")
    with django_capture_on_commit_callbacks() as callbacks:
        accepted = turns.accept(KEY, conversation.pk, "Hello", client_id="c-1")
    assert sent == [], "nothing is handed over before it is stored"
    for callback in callbacks:
        callback()
    request_id.reset(token)
    begun = {
        "user_message_id": str(accepted.user_message.id),
        "reply_id": str(accepted.reply_id),
        "client_id": "c-1",
    }
    assert sent == [
        {
            "task": turns.GENERATE,
            "reply": str(accepted.reply_id),
            "log": [("accepted", begun)],
            "tenant": in_acme.ref,
            "request": "r-1",
        }
    ]


def test_log_message_and_job_go_in_one_round_trip(
    in_acme: TenantState,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    trips: list[list[Any]] = []
    answers = valkey.answers

    def counted(client: Any, *packed: bytes) -> list[Any]:
        trips.append(answers(client, *packed))
        return trips[-1]

    announcement.client().script_load(event_log.SCRIPT)
    queue = f"letters-{uuid4()}"
    monkeypatch.setitem(current_app.conf, "task_default_queue", queue)
    monkeypatch.setattr(valkey, "answers", counted)
    monkeypatch.setattr(jobs, "enqueue", pytest.fail)
    with django_capture_on_commit_callbacks(execute=True):
        accepted = turns.accept(KEY, conversations.begin().pk, "Hello")
    [[cursor, readers, waiting]] = trips
    assert (type(cursor), readers, waiting) == (bytes, 0, 1)
    [letter] = announcement.client().lrange(queue, 0, -1)
    announcement.client().delete(queue)
    assert orjson.loads(b64decode(orjson.loads(letter)["body"]))[0] == [str(accepted.reply_id)]


def test_a_job_that_is_refused_there_is_sent_as_any_other(
    in_acme: TenantState,
    sent: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    refused = valkey.packed("NO-COMMAND")
    monkeypatch.setattr(jobs, "packed", lambda *_, **__: refused)
    with django_capture_on_commit_callbacks(execute=True):
        accepted = turns.accept(KEY, conversations.begin().pk, "Hello")
    [job] = sent
    assert (job["reply"], len(job["log"])) == (str(accepted.reply_id), 1)


def test_without_an_event_log_the_job_is_sent_all_the_same(
    in_acme: TenantState,
    sent: list[dict[str, Any]],
    freshclient: None,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    def away(*_: Any) -> None:
        raise RedisError("away")

    monkeypatch.setattr(announcement, "announce", away)
    with django_capture_on_commit_callbacks(execute=True):
        turns.accept(KEY, conversations.begin().pk, "Hello")
    assert [job["log"] for job in sent] == [[]]


def test_a_valkey_that_is_away_is_told_apart(
    in_acme: TenantState, freshclient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "EVENT_LOG_URL", "unix:///nowhere/valkey.sock")
    with pytest.raises(RedisError):
        jobs.at_once(announcement.announce(UUID(int=1), Event("r-1", "0-0", "accepted", b"{}"), b"{}"))


def test_a_valkey_that_forgot_the_script_learns_it_again(in_acme: TenantState) -> None:
    announcement.client().script_flush()
    accepted = Event(str(UUID(int=7)), "0-0", "accepted", b'{"reply_id":"7"}')
    jobs.at_once(announcement.announce(UUID(int=1), accepted, b"{}"))
    assert logged(UUID(int=1), accepted.reply_id) == [("accepted", {"reply_id": "7"})]


def test_the_same_client_id_is_the_same_turn(committed: None) -> None:
    with tenancy.in_tenant(cast.state("acme").ref):
        same_client_id_twice()


def same_client_id_twice() -> None:
    conversation = conversations.begin(model=SILENT)  # a worker may be running
    first = turns.accept(KEY, conversation.pk, "Hello", client_id="c-1")
    again = turns.accept(KEY, conversation.pk, "Hello", client_id="c-1")
    assert (first.repeated, again.repeated) == (False, True)
    assert (again.reply_id, again.user_message.id) == (first.reply_id, first.user_message.id)
    with pytest.raises(Problem) as refusal:
        turns.accept(KEY, conversation.pk, "Hello", client_id="c-2")
    turns.cancel(Reply.objects.get(pk=first.reply_id))
    assert refusal.value.code is Code.REPLY_IN_PROGRESS


# --- From an event loop ----------------------------------------------------------------------------------------------
@pytest.fixture
def letters(committed: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """Which replies there are jobs for, in a queue of the test's own."""
    queue = f"letters-{uuid4()}"
    monkeypatch.setitem(current_app.conf, "task_default_queue", queue)

    def replies() -> list[str]:
        found = map(orjson.loads, announcement.client().lrange(queue, 0, -1))
        return [orjson.loads(b64decode(letter["body"]))[0][0] for letter in found]

    yield replies
    with tenancy.in_tenant(cast.state("acme").ref):
        for reply in Reply.objects.filter(pk__in=map(UUID, replies())):
            turns.cancel(reply)
    announcement.client().delete(queue)


def begin() -> UUID:
    id: UUID = conversations.begin(model=SILENT).pk  # a worker may be running
    return id


async def test_it_is_stored_told_and_sent(letters: Callable[[], list[str]]) -> None:
    with tenancy.in_tenant((await jobs.in_thread(cast.state, "acme")).ref):
        conversation_id = await jobs.in_thread(begin)
        accepted = await turns.accept_here(KEY, conversation_id, "Hello", client_id="c-1")
        stored = await jobs.in_thread(Reply.objects.select_related("user_message").get, pk=accepted.reply_id)
        assert (stored.user_message.content, stored.status) == ("Hello", "queued")
        assert letters() == [str(accepted.reply_id)]
        [(kind, begun)] = await jobs.in_thread(logged, conversation_id, accepted.reply_id)
        assert (kind, begun["client_id"]) == ("accepted", "c-1")


async def test_the_same_client_id_is_the_same_turn_here_too(letters: Callable[[], list[str]]) -> None:
    with tenancy.in_tenant((await jobs.in_thread(cast.state, "acme")).ref):
        conversation_id = await jobs.in_thread(begin)
        first = await turns.accept_here(KEY, conversation_id, "Hello", client_id="c-1")
        again = await turns.accept_here(KEY, conversation_id, "Hello", client_id="c-1")
        with pytest.raises(Problem) as refused:
            await turns.accept_here(KEY, conversation_id, "Hello", client_id="c-2")
    assert (again.reply_id, again.repeated) == (first.reply_id, True)
    assert refused.value.code is Code.REPLY_IN_PROGRESS
    assert letters() == [str(first.reply_id)]


async def test_a_valkey_that_forgot_the_script_learns_it_again_here_too(
    letters: Callable[[], list[str]],
) -> None:
    with tenancy.in_tenant((await jobs.in_thread(cast.state, "acme")).ref):
        conversation_id = await jobs.in_thread(begin)
        announcement.client().script_flush()
        accepted = await turns.accept_here(KEY, conversation_id, "Hello")
        [(kind, _)] = await jobs.in_thread(logged, conversation_id, accepted.reply_id)
    assert (kind, letters()) == ("accepted", [str(accepted.reply_id)])


async def test_a_valkey_that_hangs_is_not_waited_for_long(
    freshclient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: asyncio.StreamReader | asyncio.StreamWriter) -> None:
        """Takes everything, and says nothing."""

    monkeypatch.setattr(announcement, "WITHIN", 0.01)
    accepted = Event(str(UUID(int=8)), "0-0", "accepted", b"{}")
    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server, asyncio.timeout(1):
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setattr(settings, "EVENT_LOG_URL", f"redis://127.0.0.1:{port}")
        with tenancy.in_tenant((await jobs.in_thread(cast.state, "acme")).ref), pytest.raises(RedisError):
            await announcement.announce(UUID(int=1), accepted, b"{}")


async def test_nothing_but_answers_comes_over_the_shared_connection(letters: Callable[[], list[str]]) -> None:
    who: Any = "CLIENT", "INFO"
    [said] = await event_log.ask(valkey.packed(*who))
    assert b" resp=2 " in said


async def test_whoever_leaves_meanwhile_has_said_it(
    letters: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    admitting, admit = asyncio.Event(), turns._admit

    async def noted(*of: Any) -> Any:
        admitting.set()
        return await admit(*of)

    monkeypatch.setattr(turns, "_admit", noted)
    with tenancy.in_tenant((await jobs.in_thread(cast.state, "acme")).ref):
        conversation_id = await jobs.in_thread(begin)
        saying = asyncio.create_task(turns.accept_here(KEY, conversation_id, "Hello"))
        await admitting.wait()
        saying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saying
        await asyncio.to_thread(until, letters, "the job is sent")
        kept = await jobs.in_thread(lambda: list(Reply.objects.filter(conversation=conversation_id)))
        assert [str(reply.pk) for reply in kept] == letters()


async def test_whoever_leaves_while_the_database_does_not_answer_leaves_nothing_behind(
    letters: Callable[[], list[str]],
) -> None:
    with tenancy.in_tenant((await jobs.in_thread(cast.state, "acme")).ref):
        saying = asyncio.create_task(turns.accept_here(KEY, await jobs.in_thread(begin), "Hello"))
        await asyncio.sleep(0)
        saying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saying
    assert asyncio.all_tasks() == {asyncio.current_task()}
