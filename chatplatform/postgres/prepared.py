"""Statements that PostgreSQL takes to pieces and plans once, not each time: most of what a short one costs is that.

What it keeps is good for one search_path alone, and with a schema for each tenant a connection sees many. So each
connection keeps a statement once for each path, those that were used last.
"""

from __future__ import annotations

import asyncio
import re
import select
from collections import OrderedDict
from collections.abc import Mapping
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary

from django.db import DEFAULT_DB_ALIAS, connections
from psycopg import BaseConnection, Connection, Error, OperationalError
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import FeatureNotSupported, InvalidSqlStatementName, error_from_result
from psycopg.pq import ConnStatus, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult

Row = tuple[Any, ...]
MOST_KEPT = 100  # for each connection; one takes about 100 kB of its memory in PostgreSQL
PLACEHOLDER = re.compile(r"%\((\w+)\)s|%%")
# A migration has changed what it answers with; the connection was reset behind our back.
OUTDATED = FeatureNotSupported, InvalidSqlStatementName
GOOD = ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK
REPORTS_SEARCH_PATH = 180000


class Statement:
    """SQL with named values (`%(name)s`), written once in the code and run again and again.

    The values go as text, and PostgreSQL finds out their types: where it cannot, the SQL has to say them.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.names: list[str] = []
        self.sent = PLACEHOLDER.sub(self._number, text).encode()

    def run(self, values: Mapping[str, Any], using: str = DEFAULT_DB_ALIAS) -> list[Row]:
        """The rows that it answers with, in the current context. Raises Django's database errors."""
        wrapper: Any = connections[using]
        rows: list[Row] = wrapper.run(self, values)
        return rows

    async def ask(self, values: Mapping[str, Any], using: str = DEFAULT_DB_ALIAS) -> list[Row]:
        """As `run`, from an event loop, in a transaction of its own. Where none runs there is nothing to wait for: this
        thread's connection is asked, within its transaction.
        """
        wrapper = wrapper_of(using)
        rows: list[Row] = await wrapper.ask(self, values) if _loop() else wrapper.run(self, values)
        return rows

    def _number(self, found: re.Match[str]) -> str:
        if (name := found[1]) is None:
            return "%"
        if name not in self.names:
            self.names.append(name)
        return f"${self.names.index(name) + 1}"


_wrappers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Any]] = WeakKeyDictionary()


def wrapper_of(using: str) -> Any:
    """Django's wrapper of a database. In an event loop all tasks share one, for they change nothing of it; Django makes
    a new one for each."""
    loop = _loop()
    if loop is None:
        return connections[using]
    of_loop = _wrappers.setdefault(loop, {})
    return of_loop.get(using) or of_loop.setdefault(using, connections[using])


def _loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class Kept:
    """What one connection has prepared, and how it writes and reads values."""

    def __init__(self, connection: BaseConnection[Any]) -> None:
        self._values = Transformer(connection)
        # None for a statement that was seen once on its path: only one that comes again is worth preparing.
        self._names: OrderedDict[tuple[Statement, str], bytes | None] = OrderedDict()
        self._numbers = count()

    def sent(self, statement: Statement, values: Mapping[str, Any]) -> Any:
        """The values as they are sent."""
        given = [values[name] for name in statement.names]
        return self._values.dump_sequence(given, [PyFormat.TEXT] * len(given))

    def rows(self, answer: PGresult) -> list[Row]:
        """The rows of an answer."""
        self._values.set_pgresult(answer)
        return self._values.load_rows(0, answer.ntuples, tuple)

    def name(self, statement: Statement, path: str) -> tuple[bytes | None, bool, bytes | None]:
        """Under which name it is prepared, if it is to be; whether that is still to be done; which other one is to be
        dropped for good."""
        key = statement, path
        if key not in self._names:
            self._names[key] = None
            return None, False, self._names.popitem(last=False)[1] if len(self._names) > MOST_KEPT else None
        self._names.move_to_end(key)
        if name := self._names[key]:
            return name, False, None
        name = self._names[key] = b"kept_%d" % next(self._numbers)
        return name, True, None

    def forget(self, statement: Statement, path: str) -> None:
        """It is not prepared any more."""
        self._names.pop((statement, path), None)


class Prepared:
    """Runs statements on a connection of Django's. Used by whoever has the connection, one thread at a time."""

    def __init__(self, connection: Connection[Any]) -> None:
        self._server, self._kept = connection.pgconn, Kept(connection)

    def run(
        self, statement: Statement, values: Mapping[str, Any], path: str, switch: bytes | None = None
    ) -> list[Row]:
        """The rows that a statement answers with, run on this search_path. `switch` takes that on before, in the same
        round trip: where it cannot, the server leaves the statement out. Raises psycopg's errors.
        """
        try:
            return self._run(statement, values, path, switch)
        except OUTDATED:
            self._kept.forget(statement, path)
            if self._server.transaction_status != TransactionStatus.IDLE:
                raise
            return self._run(statement, values, path, switch)

    def _run(
        self, statement: Statement, values: Mapping[str, Any], path: str, switch: bytes | None
    ) -> list[Row]:
        server, sent = self._server, self._kept.sent(statement, values)
        name, new, dropped = self._kept.name(statement, path)
        if dropped:
            ask(server, b"DEALLOCATE " + dropped)
        if name and new:
            if switch:
                ask(server, switch)
                switch = None
            self._prepare(name, statement, path)
        if switch:
            answer = _behind(server, switch, name, statement, sent)
        else:
            answer = server.exec_prepared(name, sent) if name else server.exec_params(statement.sent, sent)
        return self._kept.rows(checked(server, answer))

    def _prepare(self, name: bytes, statement: Statement, path: str) -> None:
        try:
            checked(self._server, self._server.prepare(name, statement.sent))
        except Error:
            self._kept.forget(statement, path)
            raise


def _behind(server: PGconn, switch: bytes, name: bytes | None, statement: Statement, sent: Any) -> PGresult:
    """What a statement answers behind another one that it depends on: its own answer, or the other's failure."""
    server.enter_pipeline_mode()
    try:
        server.send_query_params(switch, None)
        if name:
            server.send_query_prepared(name, sent)
        else:
            server.send_query_params(statement.sent, sent)
        server.pipeline_sync()
        answers = _answers(server)
    finally:
        if server.status == ConnStatus.OK:
            server.exit_pipeline_mode()
    return next((answer for answer in answers if answer.status not in GOOD), answers[-1])


def _answers(server: PGconn) -> list[PGresult]:
    """All answers up to the end of the pipeline. Raises OperationalError: the connection is lost."""
    found: list[PGresult] = []
    waiting = select.poll()
    waiting.register(server.socket, select.POLLIN | select.POLLOUT)
    while server.flush():  # the socket takes what there is at once, unless it is very much
        if any(event & ~select.POLLOUT for _, event in waiting.poll()):
            server.consume_input()
    waiting.modify(server.socket, select.POLLIN)
    while True:
        while server.is_busy():  # waits here, where other threads may run, and not in get_result
            waiting.poll()
            server.consume_input()
        answer = server.get_result()
        if answer is not None:
            if answer.status == ExecStatus.PIPELINE_SYNC:
                return found
            found.append(answer)


def ask(server: PGconn, statement: bytes) -> PGresult:
    """Run a statement without values. Raises psycopg's errors."""
    return checked(server, server.exec_(statement))


def checked(server: PGconn, answer: PGresult) -> PGresult:
    """The answer itself. Raises psycopg's error if it is one."""
    if answer.status in GOOD:
        return answer
    if server.status == ConnStatus.BAD:
        raise OperationalError(server.get_error_message())
    raise error_from_result(answer, encoding="utf-8")


def reported_path(server: PGconn) -> str | None:
    """The search_path that is on, if the server tells."""
    if server.server_version < REPORTS_SEARCH_PATH:
        return None  # cannot know, so set it every time
    value = server.parameter_status(b"search_path")
    return value.decode() if value else None


def of_connection(connection: Any) -> Prepared:
    """What this psycopg connection has prepared. Kept on it, so that both go together."""
    found: Prepared | None = getattr(connection, "kept_statements", None)
    if found is None:
        found = connection.kept_statements = Prepared(connection)
    return found
