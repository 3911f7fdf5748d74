"""Writes a reply's text to its event log as it is generated: the first token at once, the rest coalesced.

All replies of a worker process share its event loop, and one ticker, which appends for many of them in one round
trip. If Valkey loses the log or is away, the text stays here and the log is begun again with a
`reset` and all of it as soon as that works. A Valkey that refuses (out of memory, say) counts as one that is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from contextvars import Context
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

import structlog

from conversations.streaming import event_log, events
from conversations.streaming.event_log import Append
from conversations.vocabulary import ResetReason

log = structlog.get_logger("conversations.writer")
# Seconds from the first new text of a reply to its append, by the number of writers: fewer and larger appends cost the
# worker, Valkey and all readers less. The longest leaves half of 100 ms for the rest of a token's way.
WAIT, WAIT_LONGEST = 0.025, 0.05
WAIT_PER_WRITER = 0.0003
SLOT = 0.008  # s; appends that are due in the same one go together
PAUSE = 0.5  # s between two tries while Valkey is away
LAST_TRIES = 3
ROUNDS = 1000  # more than a log is ever begun again in one attempt


class ReplyWriter:
    """The one writer of one attempt. `text` is all that was shown since the last reset.

    `last` is for who ends the log after that one is gone: it comes after everything that was written of the attempt.
    """

    def __init__(self, conversation_id: UUID, reply_id: UUID, attempt: int, *, last: bool = False) -> None:
        self.reply_id, self.attempt = str(reply_id), attempt
        self.stale = asyncio.Event()
        self.closing = False
        self.flushed = asyncio.Event()  # after `closing`: the ticker is done with this writer
        self._address = event_log.address(conversation_id, reply_id)
        self._ticker: Ticker | None = None
        self._shown = ""  # what is in the log
        self._pieces: list[str] = []  # what is not, yet
        self._restarts = 0
        self._round = ROUNDS - 1 if last else 0  # how often the log was begun again
        self._under_way = (0, 0)  # pieces and restarts that the append under way stands for
        self._reset: ResetReason | None = None
        self._begin = True

    @property
    def text(self) -> str:
        """Everything since the last reset, shown or about to be."""
        return "".join((self._shown, *self._pieces))

    @property
    def safe_to_keep(self) -> bool:
        """Whether PostgreSQL may have the text. Not before the log has some: a reader who finds no log would be told
        what PostgreSQL has, and then all of it again, without a reset, as the first text of the log."""
        return not self._begin or self._reset is not None

    def start(self, reset: ResetReason | None) -> None:
        """Begin to write; a second or later attempt begins with a reset. The first one needs not be told to anybody
        before there is text."""
        self._reset = reset
        self._ticker = ticker()
        if reset:
            self._ticker.mark(self, at_once=True)

    def add(self, text: str) -> None:
        """More text; not empty."""
        self._pieces.append(text)
        if self._ticker and len(self._pieces) == 1:  # else it is marked already
            self._ticker.mark(self, at_once=not self._shown)

    def restart(self, reason: ResetReason) -> None:
        """Forget the text so far: another model takes over."""
        self._pieces.clear()
        self._restarts += 1
        self._shown, self._reset = "", reason
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
        """Append what is left and the last event, in one. False if Valkey is away: the reconciler sends it later."""
        if self._ticker and not self._ticker.forget(self):  # an append of it is under way
            await self.finish()
        self._ticker = None
        last = events.ended(status, reply)
        for _ in range(LAST_TRIES):
            rest = self._unwritten()
            append = Append(self._address, self._number, [*rest, last], self._begin, ended=True)
            try:
                [answer] = await event_log.append_all([append])
            except event_log.RedisError:
                return False
            if not isinstance(answer, event_log.LogLost):
                # Stale: a newer attempt has taken over, and will end it.
                return isinstance(answer, str | event_log.StaleAttempt)
            self.lost()
        return False

    @property
    def _number(self) -> int:
        """What fences the log. An append whose answer never came may still be on its way: what is begun after it has a
        higher number.
        """
        return self.attempt * ROUNDS + self._round

    # --- For the ticker ------------------------------------------------------------------------------------------
    @property
    def behind(self) -> bool:
        """Whether something has to be appended."""
        return bool(self._pieces or self._reset or self._begin) and not self.stale.is_set()

    def due(self) -> Append | None:
        """What has to be appended now. Its answer goes to `took`, before anything is asked for again."""
        if not self.behind:
            return None
        self._under_way = len(self._pieces), self._restarts
        return Append(self._address, self._number, self._unwritten(), self._begin)

    def _unwritten(self) -> list[tuple[str, bytes]]:
        made = []
        if self._reset:
            made.append(events.reset(self.reply_id, self._reset))
        if self._pieces:
            made.append(events.delta(self.reply_id, "".join(self._pieces)))
        return made

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
                self._shown += "".join(self._pieces[:pieces])
                del self._pieces[:pieces]
                self._reset = None

    def lost(self) -> None:
        """The log is gone, or may be: begin it again."""
        if self._shown:
            self._pieces.insert(0, self._shown)
        self._shown, self._begin = "", True
        self._round = max(self._round, min(self._round + 1, ROUNDS - 2))
        self._reset = self._reset or ResetReason.LOG_LOST


class Ticker:
    """Appends what is new of all writers of one event loop: each a moment after its first new text, those whose
    moments fall together in one round trip."""

    def __init__(self) -> None:
        self._due: dict[ReplyWriter, float] = {}  # what has to be appended, and when
        self._under_way: list[ReplyWriter] = []  # those of the append under way
        self._next = math.inf  # the earliest of these moments
        self._wake = asyncio.Event()
        self._time = asyncio.get_running_loop().time
        # Without a context: the task outlives the reply, and the tenant, that happens to be the first.
        self._task = asyncio.get_running_loop().create_task(self._run(), context=Context())

    def mark(self, writer: ReplyWriter, *, at_once: bool = False) -> None:
        """Something is new; `at_once` does not wait for more."""
        now = self._time()
        due = now if at_once else SLOT * math.ceil((now + _pause(len(self._due))) / SLOT)
        if due < self._due.get(writer, math.inf):
            self._due[writer] = due
            if due < self._next:
                self._next = due
                self._wake.set()

    def forget(self, writer: ReplyWriter) -> bool:
        """Leave what is new of a writer to itself. False, and nothing done, while an append of it is under way."""
        if writer in self._under_way:
            return False
        self._due.pop(writer, None)
        return True

    async def _run(self) -> None:
        while True:
            await self._moment()
            writers = self._under_way = self._take()
            try:
                done = await self._append(writers)
            except Exception:  # whatever it is: without the ticker no reply of this process would ever end
                log.exception("ticker_failed", replies=len(writers))
                for writer in writers:
                    self.mark(writer)
                done = False
            self._under_way = []
            if not done:
                await asyncio.sleep(PAUSE)

    async def _moment(self) -> None:
        """Wait until something is due."""
        while (left := self._next - self._time()) > 0:
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if left == math.inf else left):
                    await self._wake.wait()

    def _take(self) -> list[ReplyWriter]:
        """The writers whose moment has come. They are no longer marked."""
        now = self._time()
        taken = [writer for writer, due in self._due.items() if due <= now]
        for writer in taken:
            del self._due[writer]
        self._next = min(self._due.values(), default=math.inf)
        return taken

    async def _append(self, writers: list[ReplyWriter]) -> bool:
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
        if writer.closing and (away or not writer.behind):
            self._due.pop(writer, None)
            writer.flushed.set()
        elif writer.behind:
            self.mark(writer, at_once=writer.closing)


def _pause(writers: int) -> float:
    return min(WAIT + WAIT_PER_WRITER * writers, WAIT_LONGEST)


_tickers: WeakKeyDictionary[asyncio.AbstractEventLoop, Ticker] = WeakKeyDictionary()


def ticker() -> Ticker:
    """The ticker of the running event loop."""
    loop = asyncio.get_running_loop()
    if loop not in _tickers:
        _tickers[loop] = Ticker()
    return _tickers[loop]
