"""A limited number of places, shared fairly between those who want them.

Belongs to one event loop. Nothing here waits for anything but a place, and every change happens between two awaits:
so there is no lock, and no moment at which a cancellation could lose a place.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager


class Bulkhead:
    """`places` in all, at most `per_key` of them for one key (a tenant, say).

    Whoever waits is served in turn by key, and first come, first served within a key. A key that has all it may
    have does not hold up the others.
    """

    def __init__(self, places: int, per_key: int) -> None:
        if places < 1 or per_key < 1:
            raise ValueError("a bulkhead needs places")
        self.places, self.per_key = places, per_key
        self._held: Counter[Hashable] = Counter()
        self._taken = 0
        self._queues: OrderedDict[Hashable, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def taken(self) -> int:
        """Places that are in use."""
        return self._taken

    @property
    def waiting(self) -> int:
        """Callers who wait for a place."""
        return sum(map(len, self._queues.values()))

    def held_by(self, key: Hashable) -> int:
        """Places that this key has."""
        return self._held[key]

    @asynccontextmanager
    async def place(self, key: Hashable, within: float | None = None) -> AsyncIterator[None]:
        """Have a place inside the block. Raises TimeoutError if there is none `within` so many seconds."""
        if self._has_room(key):
            self._take(key)
        else:
            async with asyncio.timeout(within):
                await self._wait(key)
        try:
            yield
        finally:
            self._give_back(key)

    async def _wait(self, key: Hashable) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue = self._queues.setdefault(key, deque())
        queue.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # the place and the cancellation came together
                self._give_back(key)
            else:
                self._leave_queue(key, place)
            raise

    def _leave_queue(self, key: Hashable, place: asyncio.Future[None]) -> None:
        queue = self._queues.get(key)
        if queue is None or place not in queue:
            return  # passed over already, because it was cancelled
        queue.remove(place)
        if not queue:
            del self._queues[key]

    def _has_room(self, key: Hashable) -> bool:
        # Free places and somebody waiting for them do not occur together: see _hand_out.
        return self._taken < self.places and self._held[key] < self.per_key

    def _take(self, key: Hashable) -> None:
        self._taken += 1
        self._held[key] += 1

    def _give_back(self, key: Hashable) -> None:
        self._taken -= 1
        self._held[key] -= 1
        if not self._held[key]:
            del self._held[key]
        self._hand_out()

    def _hand_out(self) -> None:
        """Give free places away until there is none, or nobody waits who may have one."""
        while self._queues and (key := self._next()) is not None:
            queue = self._queues.pop(key)
            while queue and (place := queue.popleft()):
                if not place.done():  # else its caller is being cancelled, and will find out by itself
                    self._take(key)
                    place.set_result(None)
                    break
            if queue:
                self._queues[key] = queue  # at the end: the others first

    def _next(self) -> Hashable | None:
        return next((key for key in self._queues if self._has_room(key)), None)
