"""A few threads that do blocking work for event loops.

The standard library's executor makes a future with a lock of its own for each job, chained to the loop's: a job that
asks the database once spends a fifth of the interpreter's time on being handed over.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, copy_context
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
Job = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Context, Callable[[], Any]]


class Threads:
    """So many threads, begun with the first job. They end with the process, whatever they are at."""

    def __init__(self, name: str, count: int) -> None:
        self._name, self._count = name, count
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        self._lock = threading.Lock()
        self._begun = 0

    def run(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Call `work` in one of the threads, in a copy of the caller's context. A future that is cancelled before its
        turn spares the call; one that is cancelled later does not stop it."""
        if self._begun < self._count:
            self._begin()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._jobs.put((loop, future, copy_context(), work))
        return future

    def _begin(self) -> None:
        with self._lock:
            while self._begun < self._count:  # the system may refuse one: then it is asked again
                threading.Thread(target=self._go, name=f"{self._name}_{self._begun}", daemon=True).start()
                self._begun += 1

    def _go(self) -> None:
        while True:
            # In a frame of its own: a thread that waits keeps nothing of its last job.
            _do(*self._jobs.get())


def _do(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], context: Context, work: Callable[[], Any]
) -> None:
    if future.cancelled():
        return
    settle: Callable[..., None]
    try:
        settle, outcome = _answer, context.run(work)
    except BaseException as error:
        settle, outcome = _fail, error
    with suppress(RuntimeError):  # the loop has been closed meanwhile
        loop.call_soon_threadsafe(settle, future, outcome)
    del future, outcome  # an error keeps this frame, which would keep the error


def _answer(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
