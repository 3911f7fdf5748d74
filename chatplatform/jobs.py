"""Background work: enqueued by name when the transaction commits, run inside its tenant or not at all.

A job's message carries the tenant; the task's base class enters it before the task's body. Celery's signals are
not used for that: Celery swallows what a signal handler raises and runs the task anyway.
"""

from __future__ import annotations

import asyncio
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import fields
from functools import cache
from typing import Any, ParamSpec, TypeVar
from uuid import UUID
from weakref import WeakSet

import orjson
import structlog
import uvloop
from celery import Task, current_app
from celery.utils import uuid
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connections, transaction
from kombu import pools

from chatplatform import tenancy, valkey
from chatplatform.observability.context import acting, request_id
from chatplatform.tenancy import TenantRef
from chatplatform.threads import Threads

log = structlog.get_logger("chatplatform.jobs")
P = ParamSpec("P")
T = TypeVar("T")
DATABASE_THREADS = 4  # more get in each other's way: the interpreter runs one at a time
SEND_WITHIN = 1.0  # s that sending a job may take; who is away for longer is away
BROKER_AWAY = 2.0  # s that a broker which did not answer is not tried again
ONCE_MORE = {"max_retries": 1, "interval_start": 0}  # the pooled connection may be from before a restart
SENDING: dict[str, Any] = {
    "retry": True,
    "retry_policy": ONCE_MORE,
    "exchange": "",
    "content_type": "application/json",
    "content_encoding": "utf-8",
    "delivery_mode": "persistent",
}
TENANT_FIELDS = tuple(field.name for field in fields(TenantRef))
IMPATIENT = {"max_retries": 0, "socket_timeout": SEND_WITHIN, "socket_connect_timeout": SEND_WITHIN}


class PlatformTask(Task):  # type: ignore[type-arg]
    """A task of the control plane.

    An asynchronous one runs in the shared loop: called there (by `chatplatform.pool`) it answers with an
    asyncio.Task that keeps the context it was begun in; called anywhere else it waits for the result.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with tenancy.in_platform():
            return self._run(*args, **kwargs)

    def _run(self, *args: Any, request: str | None = None, **kwargs: Any) -> Any:
        token = request_id.set(request)
        try:
            with acting(lambda: ("system", str(self.name))):
                result = self.run(*args, **kwargs)
                return _begin(result) if asyncio.iscoroutine(result) else result
        finally:
            request_id.reset(token)
            if not asyncio.iscoroutinefunction(self.run):  # the shared loop has connections of its own
                close_connections()


class TenantTask(PlatformTask):
    """A task of one tenant; without a tenant in its message it does not run."""

    def __call__(self, *args: Any, tenant: dict[str, str] | None = None, **kwargs: Any) -> Any:
        if not tenant:
            raise tenancy.NoTenant(f"The task {self.name} was sent without a tenant.")
        with tenancy.in_tenant(TenantRef(**{**tenant, "id": UUID(tenant["id"])})):  # type: ignore[arg-type]
            return self._run(*args, **kwargs)


def enqueue_on_commit(task: str, *args: Any, tenant: TenantRef | None = None) -> None:
    """Send a job by its name once the current transaction has committed (now, if there is none)."""
    request = request_id.get()
    transaction.on_commit(lambda: enqueue(task, *args, tenant=tenant, request=request))


def enqueue(task: str, *args: Any, tenant: TenantRef | None = None, request: str | None = None) -> bool:
    """Send a job now. False if the broker is away: who needs the job done has a reconciler for that."""
    kwargs = _about(tenant, request)
    if (take := _taken_by.get()) is not None:
        take(task, args, kwargs)
        return True
    if time.monotonic() < _broker_away_until:
        return False
    try:
        with _producers().acquire(block=True, timeout=SEND_WITHIN) as producer:
            _send(producer, task, args, kwargs)
    except Exception as error:
        _note_broker_away()
        log.warning("job_not_sent", task=task, error=type(error).__name__)
        return False
    return True


def packed(
    task: str, *args: Any, server: str, tenant: TenantRef | None = None, request: str | None = None
) -> bytes | None:
    """A job as one command that puts it where `enqueue` would, for who has more to tell the Valkey at this URL: all
    goes in one round trip then. None if that is not the broker; then there is `enqueue`.

    kombu itself takes longer over a job than all else that is done for a message of a user's. What it would write is
    held against this in the tests.
    """
    # What follows a question mark (the number of the database, say) kombu reads in another way than redis-py.
    broker = current_app.conf.broker_url
    if "?" in server or broker != server.replace("unix://", "redis+socket://", 1) or _taken_by.get():
        return None
    message, queue = _message(task, args, _about(tenant, request)), current_app.conf.task_default_queue
    properties = {
        **message.properties,
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": queue},
        "priority": 0,
        "body_encoding": "base64",
        "delivery_tag": uuid(),
    }
    letter = {
        "body": b64encode(orjson.dumps(message.body)).decode(),
        "content-encoding": SENDING["content_encoding"],
        "content-type": SENDING["content_type"],
        "headers": message.headers,
        "properties": properties,
    }
    return valkey.packed("LPUSH", queue, orjson.dumps(letter))


@contextmanager
def taken_by(take: Callable[[str, tuple[Any, ...], dict[str, Any]], None]) -> Iterator[None]:
    """What is enqueued inside goes to `take(name, args, kwargs)` and not to the broker."""
    token = _taken_by.set(take)
    try:
        yield
    finally:
        _taken_by.reset(token)


def are_waiting() -> bool:
    """Whether there are jobs in the broker that no worker has taken yet; False too if it is away."""
    if time.monotonic() < _broker_away_until:
        return False
    try:
        with _producers().acquire(block=True, timeout=SEND_WITHIN) as producer:
            queue: Any = current_app.amqp.queues[current_app.conf.task_default_queue](producer.channel)
            try:
                return bool(queue.queue_declare(passive=True).message_count)
            except producer.connection.channel_errors:  # there is none: for Valkey, one that is empty
                return False
    except Exception as error:
        _note_broker_away()
        log.warning("queue_not_seen", error=type(error).__name__)
        return False


def _send(producer: Any, task: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """What Celery's `send_task` does, without what nobody here asks for: routes, signals, a declaration each time."""
    message = _message(task, args, kwargs)
    queue = current_app.amqp.queues[current_app.conf.task_default_queue]
    producer.publish(
        orjson.dumps(message.body),
        headers=message.headers,
        routing_key=queue.name,
        declare=[] if producer in _have_declared else [queue],
        **SENDING,
        **message.properties,
    )
    _have_declared.add(producer)


def _message(task: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    # Of the arguments monitors are shown nothing; to make that up takes long.
    return current_app.amqp.as_task_v2(
        uuid(), task, args, kwargs, ignore_result=True, argsrepr="", kwargsrepr=""
    )


def _about(tenant: TenantRef | None, request: str | None) -> dict[str, Any]:
    """What each job carries."""
    kwargs: dict[str, Any] = {"request": request}
    if tenant:
        # dataclasses.asdict copies each value deeply, which takes longer than all else here.
        kwargs["tenant"] = {name: str(getattr(tenant, name)) for name in TENANT_FIELDS}
    return kwargs


def _producers() -> Any:
    """The pool of producers. Celery's own would try to connect for ever, with a person waiting for it."""
    global _pool
    with _lock:
        if _pool is None:
            connection = current_app.connection_for_write(transport_options=IMPATIENT)
            connection.connect_timeout = SEND_WITHIN
            _pool = pools.producers[connection]
        return _pool


def _note_broker_away() -> None:
    """An outage costs one request the time-out, not every one."""
    global _broker_away_until
    _broker_away_until = time.monotonic() + BROKER_AWAY


def close_connections() -> None:
    """Give this thread's database connections back to the pool, unless it is inside a transaction."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()


_taken_by: ContextVar[Callable[[str, tuple[Any, ...], dict[str, Any]], None] | None] = ContextVar(
    "chatplatform_jobs_taken_by", default=None
)
_pool: Any = None
_have_declared: WeakSet[Any] = WeakSet()  # producers that have told the broker of the queue
_broker_away_until = 0.0  # on the monotonic clock


# --- One event loop per worker process, which all running replies share ------------------------------------------
_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_on_start: list[Callable[[], Coroutine[Any, Any, None]]] = []
_on_warm_up: list[Callable[[], Coroutine[Any, Any, None]]] = []
_on_hand_back: list[Callable[[], Coroutine[Any, Any, None]]] = []


def on_loop_start(start: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Have a coroutine run in the shared loop from its start (lease renewal, the control bus)."""
    _on_start.append(start)


def on_warm_up(load: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Have `load()` awaited in the shared loop before this worker takes its first job."""
    _on_warm_up.append(load)


def warm_up() -> None:
    """Load what is slow to load, and wait for it. What cannot be loaded now is left to the job that needs it."""
    for load in _on_warm_up:
        try:
            run_in_loop(load())
        except Exception:
            log.exception("not_warmed_up", what=load.__module__)


def start_loop() -> asyncio.AbstractEventLoop:
    """Start the shared loop and what belongs to it; a worker does so before its first job."""
    return _shared_loop()


def on_hand_back(handler: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Have `handler()` awaited in the shared loop when this worker must stop what it is at, for others to go on."""
    _on_hand_back.append(handler)


async def hand_back() -> None:
    """Stop what is under way in the shared loop, so that another worker goes on with it."""
    for handler in _on_hand_back:
        await handler()


def _begin(work: Coroutine[Any, Any, Any]) -> Any:
    try:
        return asyncio.get_running_loop().create_task(work)
    except RuntimeError:  # no loop runs in this thread
        return run_in_loop(work)


def run_in_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in the shared loop, in the caller's context, and wait for it in this thread."""
    return asyncio.run_coroutine_threadsafe(work, _shared_loop()).result()


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run blocking database work in one of a few threads, in the caller's context; right here if no loop runs here."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return function(*args, **kwargs)
    return await _run_in(_threads("database", DATABASE_THREADS), function, *args, **kwargs)


async def here_or_in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run what hardly ever needs the database right here; if it does, Django refuses, and it is run in a thread."""
    try:
        return function(*args, **kwargs)
    except SynchronousOnlyOperation:
        return await in_thread(function, *args, **kwargs)


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """The result of asynchronous work that asks the database, in a thread where no loop runs: there nothing waits."""
    try:
        work.send(None)
    except StopIteration as ended:
        result: T = ended.value
        return result
    work.close()
    raise RuntimeError("It waits for something else.")


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """The result of work that goes on to its end also where nobody waits for it any longer."""
    working = asyncio.create_task(work)
    working.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody else may ask
    return await asyncio.shield(working)


async def in_urgent_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """As `in_thread`, in a thread that nothing slow keeps busy: for leases, which run out otherwise."""
    return await _run_in(_threads("urgent", 1), function, *args, **kwargs)


async def _run_in(threads: Threads, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    def call() -> T:
        try:
            return function(*args, **kwargs)
        finally:
            close_connections()

    return await threads.run(call)


@cache
def _threads(name: str, count: int) -> Threads:
    return Threads(name, count)


def _shared_loop() -> asyncio.AbstractEventLoop:
    global _loop
    with _lock:
        if _loop is None:
            _loop = uvloop.new_event_loop()
            threading.Thread(target=_run_loop, args=(_loop,), name="replies", daemon=True).start()
        return _loop


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    running = [loop.create_task(start()) for start in _on_start]
    loop.run_forever()
    del running
