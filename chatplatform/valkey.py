"""Commands to Valkey in one round trip: from a thread, and from an event loop.

What redis-py's own pipelines do takes several times as long, and here somebody waits for it. Commands come as they go
over the wire (`packed`); errors are among the answers. Sent once: whoever hears nothing does not know
what was done.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import Context
from typing import Any

from hiredis import Reader, pack_command
from redis import Redis
from redis.exceptions import ConnectionError, InvalidResponse, NoScriptError, ResponseError
from redis.exceptions import TimeoutError as ServerTimeout

MORE_TO_COME = object()


def packed(*words: str | bytes | int | float) -> bytes:
    """One command as it goes over the wire."""
    return bytes(pack_command(words))  # type: ignore[arg-type]  # its stub means a tuple of one


def answers(client: Redis, *packed: bytes) -> list[Any]:
    """What Valkey answers. Raises RedisError, or OSError, if it is away."""
    pool: Any = client.connection_pool
    connection = pool.get_connection()
    try:
        connection.send_packed_command([b"".join(packed)])
        return [_answer(connection) for _ in packed]
    finally:
        pool.release(connection)


def _answer(connection: Any) -> Any:
    """One answer. A connection that breaks, or is left half-read, is closed."""
    try:
        return connection.read_response()
    except ResponseError as error:
        return error


class Wire:
    """One connection for all tasks of an event loop: what they ask goes out as it comes, and is answered in that order.

    For short commands alone. One that is not answered `within` so many seconds breaks the connection, with all that is
    asked at that time; the next one opens another.
    """

    def __init__(self, pool: Any, within: float) -> None:
        """`pool` is an asynchronous one of redis-py, which knows how to connect."""
        self._pool, self._within = pool, within
        self._end: _End | None = None
        self._opening: asyncio.Task[_End] | None = None

    async def answers(self, *packed: bytes, within: float | None = None) -> list[Any]:
        """What Valkey answers; `within` another time, where somebody cannot wait so long. Raises RedisError if it is
        away."""
        end = self._end
        try:
            async with asyncio.timeout(self._within if within is None else within):
                if end is None or end.closed:
                    end = await self._open()
                return await end.ask(packed)
        except TimeoutError:
            if end:
                end.hang_up()
            raise ServerTimeout("no answer in time") from None

    async def _open(self) -> _End:
        if self._opening is None:
            # Without a context: the connection outlives the tenant that happens to be the first.
            self._opening = asyncio.get_running_loop().create_task(self._connect(), context=Context())
            self._opening.add_done_callback(_heard)  # also if nobody waits any longer
        # Others wait for it too.
        return await asyncio.shield(self._opening)

    async def _connect(self) -> _End:
        try:
            connection = self._pool.make_connection()
            await connection.connect()
            self._end = _End(connection)
            return self._end
        finally:
            self._opening = None


class _End(asyncio.Protocol):
    """Our end of one connection."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection  # which would close it with its own end
        self._transport: Any = connection._writer.transport
        self._transport.set_protocol(self)
        self._reader = Reader(protocolError=InvalidResponse, replyError=_error, notEnoughData=MORE_TO_COME)
        self._asked: deque[tuple[int, list[Any], asyncio.Future[list[Any]]]] = deque()
        self.closed = self._transport.is_closing()

    def ask(self, packed: tuple[bytes, ...]) -> asyncio.Future[list[Any]]:
        answered: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._asked.append((len(packed), [], answered))
        self._transport.write(b"".join(packed))
        return answered

    def hang_up(self) -> None:
        self.closed = True
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (answer := self._reader.gets()) is not MORE_TO_COME:
            count, answers, answered = self._asked[0]
            answers.append(answer)
            if len(answers) == count:
                self._asked.popleft()
                if not answered.done():
                    answered.set_result(answers)

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        while self._asked:
            _, _, answered = self._asked.popleft()
            if not answered.done():
                answered.set_exception(ConnectionError("The connection was lost."))


def _heard(opening: asyncio.Task[Any]) -> None:
    if not opening.cancelled():
        opening.exception()


def _error(text: str) -> ResponseError:
    return NoScriptError(text) if text.startswith("NOSCRIPT") else ResponseError(text)
