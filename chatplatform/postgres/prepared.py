"""Statements that PostgreSQL takes to pieces and plans once, not each time: most of what a short one costs is that.

What it keeps is good for one search_path alone, and with a schema for each tenant a connection sees many. So each
connection keeps a statement once for each path, those that were used last.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from itertools import count
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections
from psycopg import Connection, OperationalError
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import FeatureNotSupported, InvalidSqlStatementName, error_from_result
from psycopg.pq import ConnStatus, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult

Row = tuple[Any, ...]
MOST_KEPT = 100  # for each connection; one takes about 100 kB of its memory in PostgreSQL
PLACEHOLDER = re.compile(r"%\((\w+)\)s|%%")
# A migration has changed what it answers with; the connection was reset behind our back.
OUTDATED = FeatureNotSupported, InvalidSqlStatementName


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

    def _number(self, found: re.Match[str]) -> str:
        if (name := found[1]) is None:
            return "%"
        if name not in self.names:
            self.names.append(name)
        return f"${self.names.index(name) + 1}"


class Prepared:
    """What one connection has prepared. Used by whoever has the connection, one thread at a time."""

    def __init__(self, connection: Connection[Any]) -> None:
        self._server = connection.pgconn
        self._values = Transformer(connection)
        # None for a statement that was seen once on its path: only one that comes again is worth preparing.
        self._kept: OrderedDict[tuple[Statement, str], bytes | None] = OrderedDict()
        self._numbers = count()

    def run(self, statement: Statement, values: Mapping[str, Any], path: str) -> list[Row]:
        """The rows that a statement answers with, run on this search_path. Raises psycopg's errors."""
        try:
            return self._run(statement, values, path)
        except OUTDATED:
            self._kept.pop((statement, path), None)
            if self._server.transaction_status != TransactionStatus.IDLE:
                raise
            return self._run(statement, values, path)

    def _run(self, statement: Statement, values: Mapping[str, Any], path: str) -> list[Row]:
        given = [values[name] for name in statement.names]
        sent: Any = self._values.dump_sequence(given, [PyFormat.TEXT] * len(given))
        if name := self._name(statement, path):
            answer = checked(self._server, self._server.exec_prepared(name, sent))
        else:
            answer = checked(self._server, self._server.exec_params(statement.sent, sent))
        self._values.set_pgresult(answer)
        return self._values.load_rows(0, answer.ntuples, tuple)

    def _name(self, statement: Statement, path: str) -> bytes | None:
        """Under which name it is prepared, if it is."""
        key = statement, path
        if key not in self._kept:
            self._kept[key] = None
            if len(self._kept) > MOST_KEPT:
                self._forget(self._kept.popitem(last=False)[1])
            return None
        self._kept.move_to_end(key)
        if self._kept[key] is None:
            name = b"kept_%d" % next(self._numbers)
            checked(self._server, self._server.prepare(name, statement.sent))
            self._kept[key] = name
        return self._kept[key]

    def _forget(self, name: bytes | None) -> None:
        if name is not None:
            ask(self._server, b"DEALLOCATE " + name)


def ask(server: PGconn, statement: bytes) -> PGresult:
    """Run a statement without values. Raises psycopg's errors."""
    return checked(server, server.exec_(statement))


def checked(server: PGconn, answer: PGresult) -> PGresult:
    """The answer itself. Raises psycopg's error if it is one."""
    if answer.status in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
        return answer
    if server.status == ConnStatus.BAD:
        raise OperationalError(server.get_error_message())
    raise error_from_result(answer, encoding="utf-8")


def of_connection(connection: Any) -> Prepared:
    """What this psycopg connection has prepared. Kept on it, so that both go together."""
    found: Prepared | None = getattr(connection, "kept_statements", None)
    if found is None:
        found = connection.kept_statements = Prepared(connection)
    return found
