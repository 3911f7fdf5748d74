"""Remembers that a server is away, so that an outage costs one caller the time-out and not every one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

AWAY = 1.5  # s between two tries


class Availability:
    """Whether it is worth asking. For the threads of one process."""

    def __init__(self, pause: float = AWAY, clock: Callable[[], float] = time.monotonic) -> None:
        self._pause, self._clock = pause, clock
        self._lock = threading.Lock()
        self._away = False
        self._next_try = 0.0

    def may_try(self) -> bool:
        """While the server is away, one caller in each pause tries; the others go on without."""
        if not self._away:
            return True
        with self._lock:
            now = self._clock()
            if self._away and now < self._next_try:
                return False
            self._next_try = now + self._pause
            return True

    def failed(self) -> bool:
        """It did not answer. True for the first to find out."""
        with self._lock:
            first, self._away = not self._away, True
            self._next_try = self._clock() + self._pause
            return first

    def answered(self) -> bool:
        """It did. True for the first after an outage."""
        if not self._away:
            return False
        with self._lock:
            back, self._away = self._away, False
            return back
