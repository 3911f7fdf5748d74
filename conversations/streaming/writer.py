"""Writes a reply's text to its event log as it is generated: the first token at once, the rest coalesced.

All replies of a worker process share its event loop, and one ticker: every tick it appends what is new of all of
them in one round trip. If Valkey loses the log or is away, the text stays here and the log is begun again with a
`reset` and all of it as soon as that works. A Valkey that refuses (out of memory, say) counts as one that is away.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextvars import Context
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

import structlog

from conversations.streaming import event_log, events
from conversations.streaming.event_log import Append
from conversations.vocabulary import ResetReason

log = structlog.get_logger("conversations.writer")
TICK, BUSY_TICK = 0.025, 0.05  # s; the longer one halves the work, and is still not seen
BUSY = 50  # writers in one tick
PAUSE = 0.5  # s between two tries while Valkey is away
LAST_TRIES = 3


class ReplyWriter:
    """The one writer of one attempt. `text` is all that was shown since the last reset."""

    def __init__(self, conversation_id: UUID, reply_id: UUID, attempt: int) -> None:
        self.reply_id, self.attempt = str(reply_id), attempt
        self.stale = asyncio.Event()
        self.closing = False
        self.flushed = asyncio.Event()  # after `closing`: the ticker is done with this writer
        self._address = event_log.address(conversation_id, reply_id)
        self._ticker: Ticker | None = None
        self._pieces: list[str] = []
        self._sent = 0  # pieces that are in the log
        self._restarts = 0
        self._under_way = (0, 0)  # pieces and restarts that the append under way stands for
        self._reset: ResetReason | None = None
        self._begin = True

    @property
    def text(self) -> str:
        """Everything since the last reset, shown or about to be."""
        return "".join(self._pieces)

    def start(self, reset: ResetReason | None) -> None:
        """Begin to write; a second or later attempt begins with a reset."""
        self._reset = reset
        self._ticker = ticker()
        self._ticker.mark(self, at_once=True)

    def add(self, text: str) -> None:
        """More text."""
        self._pieces.append(text)
        if self._ticker:
            self._ticker.mark(self, at_once=len(self._pieces) == 1)

    def restart(self, reason: ResetReason) -> None:
        """Forget the text so far: another model takes over."""
        self._pieces.clear()
        self._restarts += 1
        self._sent, self._reset = 0, reason
        if self._ticker:
            self._ticker.mark(self)

    async def finish(self) -> None:
        """Stop writing, with everything that was added in the log if Valkey lets it be."""
        if self._ticker:
            self.closing = True
            self._ticker.mark(self, at_once=True)
            await self.flushed.wait()
            self._ticker = None

    async def end(self, status: str, reply: dict[str, Any]) -> bool:
        """Append the last event. False if Valkey is away: the reconciler sends it later."""
        last = [events.ended(status, reply)]
        for _ in range(LAST_TRIES):
            try:
                while (append := self.due()) is not None:
                    [answer] = await event_log.append_all([append])
                    self.took(answer)
                    if isinstance(answer, event_log.RedisError):
                        return False
                [answer] = await event_log.append_all(
                    [Append(self._address, self.attempt, last, self._begin, ended=True)]
                )
            except event_log.RedisError:
                return False
            if not isinstance(answer, event_log.LogLost):
                # Stale: a newer attempt has taken over, and will end it.
                return isinstance(answer, str | event_log.StaleAttempt)
            self.lost()
        return False

    # --- For the ticker ------------------------------------------------------------------------------------------
    def due(self) -> Append | None:
        """What has to be appended now. Its answer goes to `took`, before anything is asked for again."""
        if self.stale.is_set():
            return None
        made = []
        if self._reset:
            made.append(events.reset(self.reply_id, self._reset))
        if text := "".join(self._pieces[self._sent :]):
            made.append(events.delta(self.reply_id, text))
        if not (made or self._begin):
            return None
        self._under_way = len(self._pieces), self._restarts
        return Append(self._address, self.attempt, made, self._begin)

    def took(self, answer: event_log.Answer) -> None:
        """What became of the append that was due."""
        if isinstance(answer, event_log.StaleAttempt):
            self.stale.set()
        elif isinstance(answer, Exception):
            self.lost()
        else:
            self._begin = False
            pieces, restarts = self._under_way
            if restarts == self._restarts:  # else what was sent has been forgotten in the meantime
                self._sent, self._reset = pieces, None

    def lost(self) -> None:
        """The log is gone, or may be: begin it again."""
        self._sent, self._begin = 0, True
        self._reset = self._reset or ResetReason.LOG_LOST


class Ticker:
    """Appends what is new of all writers of one event loop, together."""

    def __init__(self) -> None:
        self._marked: set[ReplyWriter] = set()
        self._wake, self._hurry = asyncio.Event(), asyncio.Event()
        # Without a context: the task outlives the reply, and the tenant, that happens to be the first.
        self._task = asyncio.get_running_loop().create_task(self._run(), context=Context())

    def mark(self, writer: ReplyWriter, *, at_once: bool = False) -> None:
        """Something is new; `at_once` does not wait for the next tick."""
        self._marked.add(writer)
        self._wake.set()
        if at_once:
            self._hurry.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._hurry.clear()
            writers, self._marked = self._marked, set()
            try:
                done = await self._append(writers)
            except Exception:  # whatever it is: without the ticker no reply of this process would ever end
                log.exception("ticker_failed", replies=len(writers))
                self._marked |= writers
                self._wake.set()
                done = False
            if done:
                pause = TICK if len(writers) < BUSY else BUSY_TICK
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._hurry.wait(), pause)
            else:
                await asyncio.sleep(PAUSE)

    async def _append(self, writers: set[ReplyWriter]) -> bool:
        """False if Valkey is away."""
        due = [(writer, append) for writer in writers if (append := writer.due()) is not None]
        try:
            answers = await event_log.append_all([append for _, append in due])
        except event_log.RedisError as error:
            answers = [event_log.RedisError(type(error).__name__)] * len(due)
        refused = [answer for answer in answers if isinstance(answer, event_log.RedisError)]
        if refused:
            log.warning("event_log_away", error=str(refused[0]), replies=len(refused))
        for (writer, _), answer in zip(due, answers, strict=True):
            writer.took(answer)
        for writer in writers:
            self._settle(writer, away=bool(refused))
        return not refused

    def _settle(self, writer: ReplyWriter, *, away: bool) -> None:
        left = writer.due() is not None
        if writer.closing and (away or not left):
            self._marked.discard(writer)
            writer.flushed.set()
        elif left:
            self.mark(writer)


_tickers: WeakKeyDictionary[asyncio.AbstractEventLoop, Ticker] = WeakKeyDictionary()


def ticker() -> Ticker:
    """The ticker of the running event loop."""
    loop = asyncio.get_running_loop()
    if loop not in _tickers:
        _tickers[loop] = Ticker()
    return _tickers[loop]
