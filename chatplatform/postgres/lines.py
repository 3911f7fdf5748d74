"""Statements sent from the event loop itself: no thread is needed for them, and none waits.

An event loop has a few connections of its own, its lines. Where the role and the search_path of the context are not on
already, they go out before the statement in the same round trip: if they cannot be taken on, the server leaves the
statement out.
"""

from __future__ import annotations

import asyncio
import random
import select
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from psycopg import AsyncConnection, OperationalError
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.pq.abc import PGresult

from chatplatform.postgres.prepared import GOOD, OUTDATED, Kept, Row, Statement, reported_path

LOOK_EVERY = 0.5  # s


@dataclass(frozen=True, slots=True)
class Fence:
    """A search_path, and the statement that takes it on with its role."""

    path: str
    switch: bytes


class Line:
    """One connection. It serves one statement at a time, and is free again when the whole answer has been read."""

    def __init__(self, connection: AsyncConnection[Any], until: float) -> None:
        self._connection, self._until = connection, until
        self._server, self._socket = connection.pgconn, connection.pgconn.socket
        self._kept = Kept(connection)
        self._answers: list[PGresult] = []
        self._asked: asyncio.Future[None] | None = None
        self._on_free: Callable[[], None] | None = None
        self._closed = False
        self._unread = select.poll()
        self._unread.register(self._socket, select.POLLIN)
        self.path: str | None = None
        self._server.nonblocking = 1
        self._server.enter_pipeline_mode()
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    @property
    def fit(self) -> bool:
        """Whether it can serve once more: nothing is left open, and it is not too old."""
        return self._server.transaction_status == TransactionStatus.IDLE and time.monotonic() < self._until

    @property
    def still_fit(self) -> bool:
        """The same, some time later: the server may have hung up."""
        if not self._closed and self._unread.poll(0):
            self._read()  # its last word
            self._read()  # and the end
        return self.fit

    async def run(self, statement: Statement, values: Mapping[str, Any], fence: Fence) -> list[Row]:
        """The rows that a statement answers with, behind this fence. Raises psycopg's errors."""
        try:
            answer = await self._ask(statement, values, fence)
        except OUTDATED:
            self._kept.forget(statement, fence.path)
            answer = await self._ask(statement, values, fence)
        return self._kept.rows(answer)

    def look(self) -> None:
        """Read what there is, though the event loop has not said so."""
        if not self._closed and self._unread.poll(0):
            self._read()

    def when_free(self, then: Callable[[], None]) -> None:
        """Call `then` once the answer has been read, also if nobody waits for it any more."""
        if self._asked:
            self._on_free = then
        else:
            then()

    def close(self) -> None:
        """Hang up."""
        if not self._closed:  # else the socket's number may be another's by now
            self._closed = True
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._socket)
            loop.remove_writer(self._socket)
            self._server.finish()

    async def _ask(self, statement: Statement, values: Mapping[str, Any], fence: Fence) -> PGresult:
        server, sent = self._server, self._kept.sent(statement, values)
        name, new, dropped = self._kept.name(statement, fence.path)
        first = [fence.switch] if self.path != fence.path else []
        if dropped:
            first.append(b"DEALLOCATE " + dropped)
        for command in first:
            server.send_query_params(command, None)
        if name and new:
            server.send_prepare(name, statement.sent)
        if name:
            server.send_query_prepared(name, sent)
        else:
            server.send_query_params(statement.sent, sent)
        server.pipeline_sync()
        answers = await self._answered()
        if new and answers[len(first)].status not in GOOD:
            self._kept.forget(statement, fence.path)
        for answer in answers:
            if answer.status not in GOOD:
                raise error_from_result(answer, encoding="utf-8")
        return answers[-1]

    async def _answered(self) -> list[PGresult]:
        """What the server answers to all that it was sent."""
        answers: list[PGresult] = []
        self._answers = answers
        self._asked = asked = asyncio.get_running_loop().create_future()
        self._write()
        await asked
        return answers

    def _write(self) -> None:
        try:
            more = self._server.flush()
        except OperationalError as error:
            self._end(error)
            return
        loop = asyncio.get_running_loop()
        if more:
            loop.add_writer(self._socket, self._write)
        else:
            loop.remove_writer(self._socket)

    def _read(self) -> None:
        server, nothing = self._server, 0
        try:
            server.consume_input()
            while nothing < 2 and not server.is_busy():  # once, it is the end of one of several answers
                answer = server.get_result()
                if answer is None:
                    nothing += 1
                elif answer.status == ExecStatus.PIPELINE_SYNC:
                    self._end()
                    return
                else:
                    nothing = 0
                    self._answers.append(answer)
        except OperationalError as error:
            self._end(error)

    def _end(self, error: OperationalError | None = None) -> None:
        """All of an answer is there, or nothing more will come."""
        asked, self._asked = self._asked, None
        on_free, self._on_free = self._on_free, None
        if error:
            self.close()
        else:
            self.path = reported_path(self._server)
        if asked and not asked.done():  # else whoever asked was cancelled
            asked.set_exception(error) if error else asked.set_result(None)
        if on_free:
            on_free()


class Lines:
    """The lines of one event loop to one database."""

    def __init__(self, parameters: Mapping[str, Any], most: int, seconds: float) -> None:
        self._parameters, self._most, self._seconds = parameters, most, seconds
        self._free: list[Line] = []  # the one that was used last is the last
        self._asked: set[Line] = set()
        self._looks = False
        self._open = 0
        self._places = asyncio.Semaphore(most)

    async def run(self, statement: Statement, values: Mapping[str, Any], fence: Fence) -> list[Row]:
        """As `Line.run`, on the line that suits it best, as soon as one is free."""
        await self._places.acquire()
        try:
            line = self._choose(fence.path) or await self._connect()
        except BaseException:
            self._places.release()
            raise
        self._asked.add(line)
        if not self._looks:
            self._look()
        try:
            return await line.run(statement, values, fence)
        finally:
            line.when_free(lambda: self._give_back(line))

    def _look(self) -> None:
        """Now and then, as long as there is an answer to come: uvloop stops watching a socket that breaks with an
        error, as one does whose server is killed with something unread, and tells nobody."""
        for line in list(self._asked):
            line.look()
        self._looks = bool(self._asked)
        if self._looks:
            asyncio.get_running_loop().call_later(LOOK_EVERY, self._look)

    def _choose(self, path: str) -> Line | None:
        """A free line, one that is on this path before others. None if one is to be opened, which there is room for."""
        while self._free:
            found = next((line for line in reversed(self._free) if line.path == path), None)
            if found is None and self._open < self._most:
                return None
            line = found or self._free[0]
            self._free.remove(line)
            if line.still_fit:
                return line
            self._drop(line)
        return None

    async def _connect(self) -> Line:
        self._open += 1
        try:
            connection = await AsyncConnection.connect(**self._parameters, autocommit=True)
        except BaseException:
            self._open -= 1
            raise
        # As of those in a pool: it may end with the process.
        connection._pool = None
        return Line(connection, time.monotonic() + self._seconds * random.uniform(0.9, 1.0))

    def _give_back(self, line: Line) -> None:
        self._asked.discard(line)
        if line.fit:
            self._free.append(line)
        else:
            self._drop(line)
        self._places.release()

    def _drop(self, line: Line) -> None:
        self._open -= 1
        line.close()

    def close(self) -> None:
        """Hang up the free ones."""
        while self._free:
            self._drop(self._free.pop())


_lines: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Lines]] = WeakKeyDictionary()


def of_this_loop(database: str, make: Callable[[], Lines]) -> Lines:
    """The running event loop's lines to a database, made if there are none yet."""
    of_loop = _lines.setdefault(asyncio.get_running_loop(), {})
    if database not in of_loop:
        of_loop[database] = make()
    return of_loop[database]


def close() -> None:
    """Hang up what the running event loop does not use just now: it is about to end."""
    for lines in _lines.pop(asyncio.get_running_loop(), {}).values():
        lines.close()
