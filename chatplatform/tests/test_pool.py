"""The worker's pool, with Celery's own tracing, without a broker."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any
from uuid import UUID

import pytest
from celery import shared_task
from celery.app.trace import build_tracer, trace_task_ret
from celery.exceptions import Reject
from kombu import serialization

from chatplatform import tenancy
from chatplatform.celery import app
from chatplatform.jobs import PlatformTask, TenantTask
from chatplatform.observability.context import request_id
from chatplatform.pool import TaskPool
from chatplatform.tenancy import NoTenant, Scope
from tenants.selectors import TenantState

WITHIN = 10.0
Seen = tuple[Scope, str | None, str]
seen: list[Seen] = []
gate = threading.Event()


def note() -> None:
    seen.append((tenancy.current_scope(), request_id.get(), threading.current_thread().name))


@shared_task(name="tests.pool_async", base=TenantTask)
async def in_the_loop() -> None:
    await asyncio.sleep(0.01)  # another one runs meanwhile
    note()


@shared_task(name="tests.pool_fails", base=PlatformTask)
async def fails() -> None:
    await asyncio.sleep(0)
    raise ZeroDivisionError


@shared_task(name="tests.pool_goes_back", base=PlatformTask)
async def goes_back() -> None:
    raise Reject("Not here.", requeue=True)


@shared_task(name="tests.pool_sync", base=TenantTask)
def in_a_thread() -> None:
    gate.wait(WITHIN)
    note()


class Answers:
    """What the pool tells Celery of one job."""

    def __init__(self) -> None:
        self.came = threading.Event()
        self.accepted = False
        self.outcome: Any = None

    def accept(self, *_: Any) -> None:
        self.accepted = True

    def take(self, outcome: Any) -> None:
        self.outcome = outcome
        self.came.set()

    def failure(self) -> BaseException | None:
        assert self.came.wait(WITHIN)
        failed, value, _ = self.outcome
        if not failed:
            return None
        error: BaseException = getattr(value.exception, "exc", value.exception)  # as Celery unwraps it
        return error


@pytest.fixture
def pool() -> Iterator[TaskPool]:
    gate.set()
    seen.clear()
    pool = TaskPool(limit=100, app=app)
    threading.Thread(target=pool.start).start()  # no signal handlers in a thread that is not the main one
    while not pool.active:
        pass
    yield pool
    gate.set()
    pool._threads.shutdown()


def apply(pool: TaskPool, task: Any, tenant: TenantState | None = None) -> Answers:
    """As Celery's request does."""
    answers = Answers()
    kwargs: dict[str, Any] = {"request": "req-1"}
    if tenant:
        kwargs["tenant"] = {**asdict(tenant.ref), "id": str(tenant.ref.id)}
    request = {"id": "1", "args": [], "kwargs": kwargs, "delivery_info": {}}
    task.__trace__ = build_tracer(task.name, task, app=app)
    pool.apply_async(
        trace_task_ret,
        (task.name, "1", request, ([], kwargs, {}), None, None),
        callback=answers.take,
        accept_callback=answers.accept,
    )
    return answers


def test_asynchronous_jobs_run_in_the_loop_each_in_its_own_tenant(
    pool: TaskPool, acme: TenantState, globex: TenantState
) -> None:
    answers = [apply(pool, in_the_loop, tenant) for tenant in (acme, globex) * 20]
    assert {answer.failure() for answer in answers} == {None}
    assert all(answer.accepted for answer in answers)
    assert [scope.tenant for scope, _, _ in seen].count(acme.ref) == 20
    assert {(request, thread) for _, request, thread in seen} == {("req-1", "replies")}
    assert tenancy.scope_or_none() is None


@pytest.mark.parametrize("said", [{"é": [1, None, "x"]}, {"id": UUID(int=7)}])
def test_jobs_are_read_as_they_were_sent(said: dict[str, Any]) -> None:
    content_type, encoding, text = serialization.dumps(said, "json")
    for body in (text, text.encode()):
        assert serialization.loads(body, content_type, encoding, accept={content_type}) == said


def test_without_a_tenant_it_does_not_run(pool: TaskPool) -> None:
    assert isinstance(apply(pool, in_the_loop).failure(), NoTenant)
    assert isinstance(apply(pool, in_a_thread).failure(), NoTenant)
    assert seen == []


def test_ordinary_jobs_run_in_threads(pool: TaskPool, acme: TenantState) -> None:
    assert apply(pool, in_a_thread, acme).failure() is None
    [(scope, _, thread)] = seen
    assert scope.tenant == acme.ref and thread.startswith("tasks")


def test_a_failure_is_told(pool: TaskPool) -> None:
    assert isinstance(apply(pool, fails).failure(), ZeroDivisionError)


def test_a_job_may_be_sent_back(pool: TaskPool) -> None:
    failure = apply(pool, goes_back).failure()
    assert isinstance(failure, Reject) and failure.args == ("Not here.", True)


def test_ordinary_jobs_do_not_hold_up_asynchronous_ones(pool: TaskPool, acme: TenantState) -> None:
    gate.clear()
    waiting = [apply(pool, in_a_thread, acme) for _ in range(20)]
    assert apply(pool, in_the_loop, acme).failure() is None
    assert not any(answers.came.is_set() for answers in waiting)
    gate.set()
    assert {answers.failure() for answers in waiting} == {None}
