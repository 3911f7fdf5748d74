"""Background jobs: sent on commit, run inside their tenant or not at all."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from celery import current_app, shared_task
from django.conf import settings
from django.db import connection, transaction
from kombu import Producer
from pytest_django import DjangoCaptureOnCommitCallbacks
from redis import Redis

from chatplatform import jobs, tenancy
from chatplatform.celery import start_loop
from chatplatform.embedded import Servers
from chatplatform.jobs import PlatformTask, TenantTask
from chatplatform.observability.context import request_id
from chatplatform.tenancy import NoTenant, Scope, View
from chatplatform.valkey import answers
from conversations.models import Conversation
from tenants.selectors import TenantState

seen: list[Any] = []


@shared_task(name="tests.note_tenant", base=TenantTask)
def note_tenant(word: str) -> Scope:
    seen.append((word, request_id.get()))
    return tenancy.current_scope()


@shared_task(name="tests.note_platform", base=PlatformTask)
def note_platform() -> Scope:
    return tenancy.current_scope()


@shared_task(name="tests.count_conversations", base=TenantTask)
def count_conversations() -> int:
    return Conversation.objects.count()


@shared_task(name="tests.fail", base=TenantTask)
def fail() -> None:
    raise ZeroDivisionError


def sent(tenant: TenantState) -> dict[str, str]:
    """A tenant as it travels in a message."""
    travelled: dict[str, str] = json.loads(json.dumps({**asdict(tenant.ref), "id": str(tenant.ref.id)}))
    return travelled


@pytest.fixture
def outbox(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What would have gone to the broker: the task's name, its arguments."""
    gone: list[Any] = []

    def publish(producer: Producer, body: bytes, *, headers: dict[str, Any], **_: Any) -> None:
        args, kwargs, _callbacks = json.loads(body)
        gone.append((headers["task"], args, kwargs))

    monkeypatch.setattr(Producer, "publish", publish)
    return gone


@pytest.mark.parametrize("nothing", [{}, {"tenant": None}, {"tenant": {}}])
def test_a_tenants_task_without_a_tenant_does_not_run(nothing: dict[str, Any]) -> None:
    seen.clear()
    with pytest.raises(NoTenant):
        note_tenant("x", **nothing)
    with tenancy.in_platform(), pytest.raises(NoTenant):
        note_tenant("x", **nothing)
    assert seen == []


def test_a_task_runs_inside_the_tenant_of_its_message(acme: TenantState, globex: TenantState) -> None:
    for tenant in (acme, globex):
        assert note_tenant("x", tenant=sent(tenant)) == Scope(View.TENANT, tenant.ref)
    assert tenancy.scope_or_none() is None


def test_a_task_sees_its_own_tenants_rows_only(acme: TenantState, globex: TenantState) -> None:
    counts = {tenant.name: count_conversations(tenant=sent(tenant)) for tenant in (acme, globex)}
    with tenancy.in_tenant(acme.ref):
        Conversation.objects.create()
    assert count_conversations(tenant=sent(acme)) == counts["Acme"] + 1
    assert count_conversations(tenant=sent(globex)) == counts["Globex"]


def test_a_task_that_fails_leaves_no_tenant_behind(acme: TenantState) -> None:
    with pytest.raises(ZeroDivisionError):
        fail(tenant=sent(acme))
    assert tenancy.scope_or_none() is None


def test_a_platform_task_has_no_tenant() -> None:
    assert note_platform() == Scope(View.PLATFORM)


def test_the_request_id_travels_with_the_job(acme: TenantState) -> None:
    seen.clear()
    note_tenant("x", tenant=sent(acme), request="r-1")
    assert seen == [("x", "r-1")]
    assert request_id.get() != "r-1"


def test_a_job_is_sent_when_the_transaction_commits(
    in_acme: TenantState,
    outbox: list[Any],
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        jobs.enqueue_on_commit("tests.note_tenant", "x", tenant=in_acme.ref)
        assert outbox == []
    ((name, args, kwargs),) = outbox
    assert (name, args, kwargs["tenant"]) == ("tests.note_tenant", ["x"], sent(in_acme))


def test_a_job_is_not_sent_when_the_transaction_is_rolled_back(
    in_acme: TenantState,
    outbox: list[Any],
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    with (
        django_capture_on_commit_callbacks(execute=True),
        pytest.raises(ZeroDivisionError),
        transaction.atomic(),
    ):
        jobs.enqueue_on_commit("tests.note_tenant", "x", tenant=in_acme.ref)
        raise ZeroDivisionError
    assert outbox == []


def test_a_broker_that_is_away_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError

    monkeypatch.setattr(Producer, "publish", away)
    assert jobs.enqueue("tests.note_platform") is False


@pytest.fixture
def letters(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[Any]]]:
    """A queue of its own, and what is in it."""
    queue = f"letters-{uuid4()}"
    monkeypatch.setitem(current_app.conf, "task_default_queue", queue)
    monkeypatch.setattr(jobs, "_broker_away_until", 0.0)  # another test's
    with Redis.from_url(servers.where.redis_url) as broker:
        yield lambda: [orjson.loads(letter) for letter in broker.lrange(queue, 0, -1)]
        broker.delete(queue)


def test_it_sees_whether_jobs_wait(letters: Callable[[], list[Any]], servers: Servers) -> None:
    assert not jobs.are_waiting()
    assert jobs.enqueue("tests.note_platform")
    assert jobs.are_waiting()
    with Redis.from_url(servers.where.redis_url) as broker:
        broker.delete(current_app.conf.task_default_queue)
    assert not jobs.are_waiting()


def without_its_number(letter: dict[str, Any]) -> dict[str, Any]:
    """A job as it is in the queue, opened, without what is another's each time."""
    number = letter["headers"].pop("id")
    assert number == letter["headers"].pop("root_id") == letter["properties"].pop("correlation_id")
    assert UUID(number) != UUID(letter["properties"].pop("delivery_tag"))
    return letter | {"body": orjson.loads(b64decode(letter["body"]))}


def test_a_packed_job_is_what_kombu_would_have_written(
    letters: Callable[[], list[Any]], acme: TenantState
) -> None:
    about: Any = {"tenant": acme.ref, "request": "r-1"}
    assert jobs.enqueue("tests.note_tenant", "x", **about)
    packed = jobs.packed("tests.note_tenant", "x", server=settings.EVENT_LOG_URL, **about)
    assert packed
    with Redis.from_url(settings.EVENT_LOG_URL) as valkey:
        assert answers(valkey, packed) == [2]
    one, other = map(without_its_number, letters())
    assert one == other
    assert one["body"][0] == ["x"]


@pytest.mark.parametrize(
    "server", ["redis://elsewhere:6379/0", "amqp://somebody@rabbit//", "", "same?db=1"], ids=str
)
def test_a_job_is_packed_for_its_broker_alone(server: str) -> None:
    server = server.replace("same", settings.EVENT_LOG_URL)
    assert jobs.packed("tests.note_platform", server=server) is None


def test_a_job_that_somebody_takes_is_not_packed() -> None:
    with jobs.taken_by(lambda *_: None):
        assert jobs.packed("tests.note_platform", server=settings.EVENT_LOG_URL) is None


def test_the_shared_loop_works_in_the_callers_context(acme: TenantState) -> None:
    async def where() -> Scope:
        await asyncio.sleep(0)
        return await jobs.in_thread(tenancy.current_scope)

    with tenancy.in_tenant(acme.ref):
        assert jobs.run_in_loop(where()).tenant == acme.ref
    with pytest.raises(NoTenant):
        jobs.run_in_loop(where())


def test_a_worker_is_warm_before_it_takes_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    async def fails() -> None:
        raise ModuleNotFoundError

    async def loads() -> None:
        await asyncio.sleep(0.05)
        done.append("loaded")

    monkeypatch.setattr(jobs, "_on_warm_up", [])
    for load in (fails, loads):
        jobs.on_warm_up(load)
    start_loop()
    assert done == ["loaded"]


def test_connections_are_given_back_outside_a_transaction_only(committed: None) -> None:
    with tenancy.in_platform(), transaction.atomic():
        connection.ensure_connection()
        jobs.close_connections()
        assert connection.connection is not None
    jobs.close_connections()
    assert connection.connection is None
