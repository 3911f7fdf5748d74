"""The deadlines of one stream, kept by one timer that is seldom moved."""

from __future__ import annotations

import asyncio
from typing import Any

from .types import Timeouts


class Watch:
    """Cancels the task that waits for a provider too long.

    A time-out context for every token would be work for every token. Here a token only notes when the next one is
    due; the timer looks at that note when it fires, and sets itself again. Time that the reader takes between two
    tokens counts for the total only.
    """

    def __init__(self, timeouts: Timeouts) -> None:
        self._loop = asyncio.get_running_loop()
        begin = self._loop.time()
        self._due = begin + timeouts.first_token
        self._end = begin + timeouts.total
        self._inter_token = timeouts.inter_token
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: asyncio.Task[Any] | None = None
        self._cancelling = 0  # requests to cancel the task that were there before ours
        self._cancelled: asyncio.Task[Any] | None = None
        self._before_first = True
        self.phase = "first_token"

    def begin(self) -> bool:
        """The task begins to wait for what comes next. False if there is no time left for it at all."""
        now = self._loop.time()
        if now >= self._end:  # a reader that is always behind never waits, so the timer would never meet it
            self.phase = "total"
            return False
        task = asyncio.current_task(self._loop)
        assert task is not None
        self._waiting, self._cancelling = task, task.cancelling()
        if not self._before_first:
            self._due = now + self._inter_token
        if self._timer is None or self._timer.when() > self._due:
            self._set()
        return True

    def rest(self) -> None:
        """Something came; the reader is at work with it."""
        self._waiting = None
        self._before_first = False

    def close(self) -> None:
        """The stream is over."""
        self._waiting = None
        if self._timer is not None:
            self._timer.cancel()
        self.cancelled_it()

    def cancelled_it(self) -> bool:
        """Whether the deadline, and nobody else, has cancelled the task. Takes the cancellation back."""
        task, self._cancelled = self._cancelled, None
        return task is not None and task.uncancel() <= self._cancelling

    def _set(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(min(self._due, self._end), self._look)

    def _look(self) -> None:
        self._timer = None
        if self._waiting is None:
            return  # the next `begin` sets it again
        if self._loop.time() < min(self._due, self._end):
            self._set()
            return
        self.phase = "first_token" if self._before_first else "inter_token"
        if self._end < self._due:
            self.phase = "total"
        self._cancelled, self._waiting = self._waiting, None
        self._cancelled.cancel()
