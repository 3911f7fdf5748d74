"""What a process keeps of the database for some seconds, and then reads again only if it has changed.

A mark says whether: whatever is cheap to ask and differs after every change, such as `xmin` and `ctid` of the rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

from cachetools import LRUCache

MEANWHILE = 0.5  # s that others go on with what is kept, while one looks whether it has changed

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(slots=True)
class Entry(Generic[V]):
    """One value, when it was known to hold, and until when it is taken for granted; times are monotonic."""

    value: V
    mark: object
    known: float
    until: float


class Kept(Generic[K, V]):
    """Values by key, each at most `seconds` old; the `most` that were asked for last. Safe between threads.

    `mark` is read before the value that it stands for, so that a change between the two is seen the next time. None is
    not kept: what is made up must not crowd out what there is.
    """

    def __init__(
        self, seconds: float, most: int, mark: Callable[[K], object], load: Callable[[K], V]
    ) -> None:
        self.seconds, self._mark, self._load = seconds, mark, load
        self._entries: LRUCache[K, Entry[V]] = LRUCache(most)
        self._lock = Lock()

    def get(self, key: K) -> V | None:
        """The value, if it is kept and not too old; asks nobody, so an event loop may."""
        with self._lock:
            entry = self._entries.get(key)
            return entry.value if entry and time.monotonic() < entry.until else None

    def last(self, key: K) -> V | None:
        """The value as it was last known, however long ago."""
        with self._lock:
            entry = self._entries.get(key)
            return entry.value if entry else None

    def read(self, key: K) -> V:
        """The value as it is now. Raises what `mark` and `load` raise."""
        began = time.monotonic()
        with self._lock:
            entry = self._entries.get(key)
            if entry:
                entry.until = min(began + MEANWHILE, entry.known + self.seconds)
        mark = self._mark(key)
        value = entry.value if entry and entry.mark == mark else self._load(key)
        with self._lock:
            if value is None:
                self._entries.pop(key, None)
            else:
                self._entries[key] = Entry(value, mark, began, began + self.seconds - MEANWHILE)
        return value

    def make_old(self, key: K) -> None:
        """Look whether this value has changed, when it is next asked for."""
        with self._lock:
            if entry := self._entries.get(key):
                entry.known = entry.until = 0.0

    def forget(self, key: K | None = None) -> None:
        """Drop one value, or all."""
        with self._lock:
            self._entries.clear() if key is None else self._entries.pop(key, None)
