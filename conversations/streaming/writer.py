"""Writes a reply's text to its event log as it is generated: the first token at once, the rest coalesced.

All replies of a worker process share its event loop; each writer appends at most every TICK seconds, in one
script call. If Valkey loses the log or is away, the text stays here and the log is begun again with a `reset`
and all of it as soon as that works.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any
from uuid import UUID

import structlog

from conversations.streaming import event_log, events
from conversations.vocabulary import ResetReason

log = structlog.get_logger("conversations.writer")
TICK = 0.025
PAUSE = 0.5  # s between two tries while Valkey is away
LAST_TRIES = 3


class ReplyWriter:
    """The one writer of one attempt. `text` is all that was shown since the last reset."""

    def __init__(self, conversation_id: UUID, reply_id: UUID, attempt: int) -> None:
        self.conversation_id, self.reply_id, self.attempt = conversation_id, str(reply_id), attempt
        self.stale = asyncio.Event()
        self._pieces: list[str] = []
        self._sent = 0  # pieces that are in the log
        self._reset: ResetReason | None = None
        self._begin = True
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def text(self) -> str:
        """Everything since the last reset, shown or about to be."""
        return "".join(self._pieces)

    def start(self, reset: ResetReason | None) -> None:
        """Begin to write; a second or later attempt begins with a reset."""
        self._reset = reset
        self._wake.set()
        self._task = asyncio.create_task(self._run())

    def add(self, text: str) -> None:
        """More text."""
        self._pieces.append(text)
        self._wake.set()

    def restart(self, reason: ResetReason) -> None:
        """Forget the text so far: another model takes over."""
        self._pieces.clear()
        self._sent, self._reset = 0, reason
        self._wake.set()

    async def finish(self) -> None:
        """Stop writing, with everything that was added in the log if Valkey lets it be."""
        self._closing.set()
        self._wake.set()
        if self._task:
            await self._task  # never cancelled: an append that was under way would be sent again
        await self._flush_safely()

    async def end(self, status: str, reply: dict[str, Any]) -> bool:
        """Append the last event. False if Valkey is away: the reconciler sends it later."""
        await self._flush_safely()
        for _ in range(LAST_TRIES):
            try:
                await self._append([events.ended(status, reply)], ended=True)
            except event_log.LogLost:
                self._lost()
                await self._flush_safely()
            except event_log.StaleAttempt:
                return True  # a newer attempt has taken over, and will end it
            except event_log.RedisError:
                return False
            else:
                return True
        return False

    async def _run(self) -> None:
        while not (self.stale.is_set() or self._closing.is_set()):
            await self._wake.wait()
            self._wake.clear()
            pause = TICK if await self._flush_safely() else PAUSE
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), pause)

    async def _flush_safely(self) -> bool:
        """Append what is new; False if it has to be tried again later."""
        try:
            await self._flush()
        except event_log.StaleAttempt:
            self.stale.set()
        except event_log.LogLost:
            self._lost()
            return await self._flush_safely()
        except event_log.RedisError as error:
            log.warning("event_log_away", error=type(error).__name__)
            self._lost()
            return False
        return True

    async def _flush(self) -> None:
        upto, made = len(self._pieces), []
        if self._reset:
            made.append(events.reset(self.reply_id, self._reset))
        if text := "".join(self._pieces[self._sent : upto]):
            made.append(events.delta(self.reply_id, text))
        if made or self._begin:
            reset = self._reset
            await self._append(made)
            self._sent = upto
            if self._reset is reset:
                self._reset = None

    async def _append(self, made: list[tuple[str, bytes]], *, ended: bool = False) -> None:
        await event_log.append(
            self.conversation_id, self.reply_id, self.attempt, made, begin=self._begin, ended=ended
        )
        self._begin = False

    def _lost(self) -> None:
        self._sent, self._begin = 0, True
        self._reset = self._reset or ResetReason.LOG_LOST
        self._wake.set()
