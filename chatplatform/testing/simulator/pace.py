"""The pace of all answers under way: one timer for the tokens of all of them, instead of a sleep for each token.

A benchmark shares its machine with the simulator, so a token has to be cheap here.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

from aiohttp import web

TICK = 0.002  # s; a token may be that late
FULL = 256 * 1024  # bytes that wait for a slow reader; then it gets no more until it has read


class Track:
    """One answer: its frames, the time of the first, and the seconds from each to the next."""

    __slots__ = ("done", "every", "first", "frames", "sent", "transport")

    def __init__(
        self, transport: asyncio.Transport, frames: Sequence[bytes], first: float, every: float
    ) -> None:
        self.transport, self.frames, self.first, self.every = transport, frames, first, every
        self.sent = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def due(self) -> float:
        return self.first + self.sent * self.every


class Wheel:
    """Sends every track's frames in time."""

    def __init__(self) -> None:
        self._due: dict[int, list[Track]] = {}

    async def play(self, track: Track) -> None:
        """Until its last frame is sent. Raises ConnectionResetError when nobody is there to read it."""
        if not track.frames:
            return
        self._add(asyncio.get_running_loop(), track, math.ceil(track.due / TICK))
        await track.done

    def _add(self, loop: asyncio.AbstractEventLoop, track: Track, tick: int) -> None:
        waiting = self._due.get(tick)
        if waiting is None:
            self._due[tick] = [track]
            loop.call_at(tick * TICK, self._turn, loop, tick)
        else:
            waiting.append(track)

    def _turn(self, loop: asyncio.AbstractEventLoop, tick: int) -> None:
        for track in self._due.pop(tick):
            transport = track.transport
            if track.done.done():  # cancelled
                continue
            if transport.is_closing():
                track.done.set_exception(ConnectionResetError("the client has left"))
                continue
            if transport.get_write_buffer_size() < FULL:
                transport.write(track.frames[track.sent])
                track.sent += 1
                if track.sent == len(track.frames):
                    track.done.set_result(None)
                    continue
            self._add(loop, track, max(tick + 1, math.ceil(track.due / TICK)))


WHEEL = web.AppKey("wheel", Wheel)
