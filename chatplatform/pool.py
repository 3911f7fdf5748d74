"""The worker's pool: asynchronous tasks run side by side in one event loop, ordinary ones in a few threads.

Celery has no such pool. All talking with the broker stays in Celery's main thread: what a task came to is handed to
Celery's own loop there, so that a broker that is away never keeps the replies waiting.

SIGTERM: no more jobs are taken; what is under way has `WORKER_GRACE_SECONDS` to end, and is handed back then. A second
SIGTERM hands back at once.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import structlog
from billiard.einfo import ExceptionInfo
from celery.concurrency.base import BasePool, apply_target
from celery.exceptions import Reject
from celery.signals import worker_ready, worker_shutdown
from celery.worker import state
from django.conf import settings

from chatplatform import jobs

log = structlog.get_logger("chatplatform.pool")
Callback = Callable[..., Any]
HAND_BACK_WITHIN = 0.7  # s for what is handed back to be written down
EXIT_WITHIN = 0.9  # s after that for Celery to return what is not acknowledged, and end
ENDS_WITHIN = 2 * HAND_BACK_WITHIN + EXIT_WITHIN  # s at most, once the grace is over


class TaskPool(BasePool):
    """See above. `limit` is how many jobs the worker takes; each asynchronous one begins at once.

    So nothing waits here while another worker is idle: Valkey gives each job to the worker that has waited longest
    for one, and a worker that is full does not ask. Only ordinary jobs may wait for a thread, and these are few.
    """

    signal_safe = False
    body_can_be_buffer = True

    def on_start(self) -> None:
        self._threads = ThreadPoolExecutor(settings.WORKER_THREADS, thread_name_prefix="tasks")
        self._loop = jobs.start_loop()
        self._hub: Any = None
        self._consumer: Any = None
        worker_ready.connect(self._is_ready)
        worker_shutdown.connect(_leave)
        self._under_way: set[Callback] = set()  # those that have not been answered
        self._waiting: dict[Future[None], Callback] = {}
        self._drain: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: self._loop.call_soon_threadsafe(self._asked_to_stop))

    def _is_ready(self, sender: Any, **_: Any) -> None:
        self._consumer = sender

    def register_with_event_loop(self, hub: Any) -> None:
        """Celery calls this in its main thread whenever it has connected to the broker."""
        self._hub = hub

    # --- Running ------------------------------------------------------------------------------------------------
    def on_apply(
        self,
        target: Callback,
        args: Any = (),
        kwargs: Any = None,
        callback: Callback = print,
        accept_callback: Callback = print,
        **_: Any,
    ) -> None:
        """Run one job. `args` are those of Celery's tracing function: name, id, request, …"""
        self._under_way.add(callback)
        if self._drain is not None:
            self._answer(callback, _failed(Reject("This worker stops.", requeue=True)))
            return
        task, request = self.app.tasks[args[0]], args[2]
        if asyncio.iscoroutinefunction(task.run):
            accept_callback(os.getpid(), time.monotonic())
            self._loop.call_soon_threadsafe(self._begin, task, request, callback)
            return
        answer = partial(self._answer, callback)
        job = self._threads.submit(apply_target, target, args, kwargs, answer, accept_callback)
        self._waiting[job] = callback
        job.add_done_callback(lambda job: self._waiting.pop(job, None))

    def _begin(self, task: Any, request: dict[str, Any], callback: Callback) -> None:
        """In the loop. The task's base class enters the tenant; the coroutine keeps the context it was made in."""
        began = time.monotonic()
        try:
            running = task(*request["args"], **request["kwargs"])
        except Exception as error:
            log.exception("task_not_begun", task=task.name)
            self._answer(callback, _failed(error))
        else:
            running.add_done_callback(partial(self._ended, task.name, callback, began))

    def _ended(self, name: str, callback: Callback, began: float, running: asyncio.Task[Any]) -> None:
        error = asyncio.CancelledError() if running.cancelled() else running.exception()
        if error is None:
            self._answer(callback, (0, None, time.monotonic() - began))
            return
        if not isinstance(error, Reject):
            log.error("task_failed", task=name, exc_info=error)
        self._answer(callback, _failed(error))

    def _answer(self, callback: Callback, outcome: Any) -> None:
        """Tell Celery, in its main thread, what a job came to: it acknowledges or rejects it."""
        self._in_main_thread(partial(self._tell, callback, outcome))

    def _tell(self, callback: Callback, outcome: Any) -> None:
        try:
            callback(outcome)
        except Exception as error:  # the broker is away: the job may come twice, and the lease sees to that
            log.warning("job_not_acknowledged", error=type(error).__name__)
        finally:
            self._under_way.discard(callback)

    def _in_main_thread(self, call: Callable[[], Any]) -> None:
        if self._hub is None:
            call()
        else:
            self._hub.call_soon(call)

    # --- Stopping -----------------------------------------------------------------------------------------------
    def _asked_to_stop(self) -> None:
        if self._drain is None:
            self._drain = asyncio.get_running_loop().create_task(self._stop())
        else:
            self._hurry.set()

    async def _stop(self) -> None:
        log.info("worker_stops", jobs=len(self._under_way), grace=settings.WORKER_GRACE_SECONDS)
        self._in_main_thread(self._take_no_more)
        await self._idle(settings.WORKER_GRACE_SECONDS, self._hurry)
        for job, callback in list(self._waiting.items()):
            if job.cancel():
                self._answer(callback, _failed(Reject("This worker stops.", requeue=True)))
        log.info("worker_hands_back", jobs=len(self._under_way))
        try:
            await asyncio.wait_for(jobs.hand_back(), HAND_BACK_WITHIN)
        except Exception as error:  # the database is away, say; the leases run out by themselves
            log.warning("not_handed_back", error=type(error).__name__)
        await self._idle(HAND_BACK_WITHIN)
        # Whatever does not end by then is redelivered, or found by a reconciler.
        backstop = threading.Timer(EXIT_WITHIN, os._exit, [0])
        backstop.daemon = True
        backstop.start()
        state.should_stop = 0  # type: ignore[assignment]  # the exit status, says Celery
        self._in_main_thread(lambda: None)  # wakes it

    async def _idle(self, within: float, enough: asyncio.Event | None = None) -> None:
        """Wait until every job has been answered, but not for longer than that, and not once it is enough."""
        until = time.monotonic() + within
        # Jobs are answered in another thread: there is nothing to wait for in this one.
        while self._under_way and time.monotonic() < until:
            if enough and enough.is_set():
                return
            await asyncio.sleep(0.02)

    def _take_no_more(self) -> None:
        """A job that is on its way from the broker is refused there, and goes back."""
        if self._consumer is not None and self._consumer.task_consumer is not None:
            for queue in list(self.app.amqp.queues.consume_from):
                self._consumer.cancel_task_queue(queue)

    def on_stop(self) -> None:
        """Celery ends its worker. After a signal nothing is left to do; if it was told over the broker, it is."""
        self._hub = self._consumer = None  # Celery's loop does not run any more
        if self._drain is None:
            asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._threads.shutdown(wait=False, cancel_futures=True)


def _leave(**_: Any) -> None:
    """The last thing that Celery does. Taking the interpreter apart, models and all, would take a second more."""
    atexit._run_exitfuncs()
    os._exit(0)


def _failed(error: BaseException) -> tuple[int, Any, float]:
    """What Celery's tracing would answer for a job that raised this."""
    try:
        raise error
    except BaseException:
        return 1, ExceptionInfo(internal=True), 0.0
