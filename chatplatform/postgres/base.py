"""The database backend that obeys `chatplatform.tenancy`.

Every statement runs under the role and the search_path of the context in force; without a context there is no
cursor. django-tenants keeps the tenant on the connection, which is one per thread: two tasks of an event loop
then read each other's rows. Here the connection keeps nothing: before each statement the wanted search_path is
compared with the one the server reports (PostgreSQL reports every change of it since version 18, a rollback
or a raw RESET included), and role and path are set together, in one statement, when they differ.
"""

from __future__ import annotations

import select
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast

from django.core.exceptions import ImproperlyConfigured
from django.db.backends.base.base import NO_DB_ALIAS
from django.db.backends.postgresql.base import Cursor, ServerSideCursor
from django.db.backends.postgresql.introspection import DatabaseIntrospection, TableInfo
from django_tenants.postgresql_backend import base as django_tenants_backend
from psycopg import Connection, OperationalError
from psycopg.pq import TransactionStatus
from psycopg.sql import SQL
from psycopg_pool import ConnectionPool

from chatplatform import tenancy
from chatplatform.postgres import names
from chatplatform.postgres.at_commit import write_pending
from chatplatform.postgres.lines import Fence, Lines, of_this_loop
from chatplatform.postgres.prepared import Row, Statement, ask, of_connection, reported_path
from chatplatform.tenancy import Scope, View

LINES = 8  # at most, for an event loop; half of its process's connections where these are few


@lru_cache(4096)
def _switch(role: str, path: str) -> bytes:
    """The statement that takes on a role and a search_path."""
    statement = "SELECT set_config('role', {}, false), set_config('search_path', {}, false)"
    return SQL(statement).format(role, path).as_bytes()


class FencedCursor(Cursor):
    """A cursor that takes on the context's role and search_path before each statement."""

    fence: Any = None

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        if self.fence:
            self.fence()
        return super().execute(*args, **kwargs)  # type: ignore[misc]

    def executemany(self, *args: Any, **kwargs: Any) -> Any:
        if self.fence:
            self.fence()
        return super().executemany(*args, **kwargs)  # type: ignore[misc]

    def copy(self, *args: Any, **kwargs: Any) -> Any:
        if self.fence:
            self.fence()
        return super().copy(*args, **kwargs)  # type: ignore[misc]


def check_connection(connection: Connection[Any]) -> None:
    """Refuse to take a connection out of the pool that the server has closed.

    A server that hangs up leaves something to be read, so a silent connection needs no round trip. Where one is
    dead most likely all are: they are thrown out together, for the pool itself would find them one by one, with
    pauses that grow.
    """
    waiting = select.poll()
    try:
        waiting.register(connection.pgconn.socket, select.POLLIN)
        if waiting.poll(0):
            ConnectionPool.check_connection(connection)
    except OperationalError:
        cast(ConnectionPool[Any], connection._pool).check()
        raise


class Pool(ConnectionPool[Any]):
    """Gives out the connection that came back last: its process has all at hand, and has prepared most."""

    def _get_ready_connection(self, timeout: float | None) -> Any:
        self._pool.rotate()
        return super()._get_ready_connection(timeout)


class Introspection(DatabaseIntrospection):
    """Lists the tables of the current schema alone, so that a tenant's migrations are not taken for done
    because `public` has a table of the same name."""

    def get_table_list(self, cursor: Any) -> Any:
        cursor.execute(
            """
            SELECT relname, CASE WHEN relispartition THEN 'p' WHEN relkind IN ('m', 'v') THEN 'v' ELSE 't' END,
                   obj_description(oid, 'pg_class')
            FROM pg_class
            WHERE relkind IN ('f', 'm', 'p', 'r', 'v') AND relnamespace = current_schema()::regnamespace
            """
        )
        return [TableInfo(*row) for row in cursor.fetchall()]


class DatabaseWrapper(django_tenants_backend.DatabaseWrapper):  # type: ignore[misc]
    """PostgreSQL behind the tenant fence.

    `OPTIONS["fence"]` is "application" (a tenant's role, or the platform's) or "owner" (the role that owns all
    objects: migrations only). The search_path follows the context in both.
    """

    SchemaEditorClass = django_tenants_backend.original_backend.DatabaseWrapper.SchemaEditorClass

    def __init__(self, settings_dict: dict[str, Any], alias: str = "default") -> None:
        self._ready = False
        super().__init__(settings_dict, alias)
        self.introspection = Introspection(self)
        self._ready = True

    # django-tenants asks the connection for its schema; the answer is always the context's.
    @property
    def schema_name(self) -> str:
        scope = tenancy.scope_or_none()
        return scope.tenant.schema if scope and scope.tenant else "public"

    @schema_name.setter
    def schema_name(self, value: str | None) -> None:
        return

    def set_tenant(self, tenant: Any, include_public: bool = True) -> None:
        if self._ready:
            raise ImproperlyConfigured(
                "The tenant is not a property of a connection: use chatplatform.tenancy."
            )

    @property
    def pool(self) -> ConnectionPool[Any] | None:
        """As Django's, but always with a check, and a cheaper one."""
        options = self.settings_dict["OPTIONS"].get("pool")
        if self.alias == NO_DB_ALIAS or not options:
            return None
        if self.alias not in self._connection_pools:
            pool = Pool(
                kwargs={**self.get_connection_params(), "autocommit": True},
                open=False,
                configure=self._configure_connection,
                check=check_connection,
                **options,
            )
            self._connection_pools.setdefault(self.alias, pool)  # another thread may have been quicker
        found: ConnectionPool[Any] = self._connection_pools[self.alias]
        return found

    def get_connection_params(self) -> dict[str, Any]:
        params: dict[str, Any] = super().get_connection_params()
        params.pop("fence", None)
        params["cursor_factory"] = FencedCursor
        return params

    def wanted(self, scope: Scope) -> tuple[str, str]:
        """The role and the search_path that a context stands for."""
        database = self.settings_dict["NAME"]
        schema = names.checked_schema(scope.tenant.schema) if scope.tenant else None
        path = f"{schema}, public" if schema else "public"
        if self.settings_dict["OPTIONS"].get("fence") == "owner":
            return names.owner_role(database), path
        if scope.view is View.TENANT and scope.tenant and schema:
            # No schema either: a tenant that was erased and born again under its old slug has the old path and
            # another role, which connections that served the old one must take on.
            return names.tenant_role(database, schema), f"{path}, tenant_{scope.tenant.id.hex}"
        # The trailing name is no schema: it keeps staff's path different from the tenant's own, because
        # the path alone tells which role is on.
        role = names.platform_role(database)
        return role, f"{path}, {role}"

    def fence(self) -> None:
        """Take on the context's role and search_path on this connection, if they are not on already."""
        connection = self.connection
        role, path = self.wanted(tenancy.current_scope())
        if connection.pgconn.transaction_status == TransactionStatus.INERROR:
            return  # only a rollback can follow, and the server accepts nothing else
        if reported_path(connection.pgconn) == path:
            return
        ask(connection.pgconn, _switch(role, path))

    def _cursor(self, name: str | None = None) -> Any:
        tenancy.current_scope()  # refuse before a connection is even opened
        return super(django_tenants_backend.DatabaseWrapper, self)._cursor(name)

    def create_cursor(self, name: str | None = None) -> Any:
        cursor = super().create_cursor(name)
        if isinstance(cursor, ServerSideCursor):
            self.fence()  # its one statement follows at once
        else:
            cursor.fence = self.fence
        return cursor

    def run(self, statement: Statement, values: Mapping[str, Any]) -> list[Row]:
        """The rows that a statement answers with: as a cursor would do it, but see `chatplatform.postgres.prepared`.

        Raises Django's database errors.
        """
        self.validate_no_broken_transaction()
        scope = tenancy.current_scope()
        self.ensure_connection()
        connection, (role, path) = self.connection, self.wanted(scope)
        with self.wrap_database_errors:
            switch = None
            if connection.autocommit and connection.pgconn.transaction_status == TransactionStatus.IDLE:
                switch = None if reported_path(connection.pgconn) == path else _switch(role, path)
            else:
                self.fence()
            if not connection.autocommit:
                connection.wait(connection._start_query())
            if self.queries_logged:
                self.queries_log.append({"sql": statement.text, "time": "0"})
            return of_connection(connection).run(statement, values, path, switch)

    async def ask(self, statement: Statement, values: Mapping[str, Any]) -> list[Row]:
        """As `run`, from an event loop, over one of its lines."""
        role, path = self.wanted(tenancy.current_scope())
        lines = of_this_loop(self.alias, self._lines)
        if self.queries_logged:
            self.queries_log.append({"sql": statement.text, "time": "0"})
        with self.wrap_database_errors:
            return await lines.run(statement, values, Fence(path, _switch(role, path)))

    def _lines(self) -> Lines:
        parameters, options = self.get_connection_params(), self.settings_dict["OPTIONS"]
        del parameters["cursor_factory"]
        most: int = options["pool"]["max_size"]
        lines = max(1, min(LINES, most // 2))
        if self.pool:  # for the two to be no more together
            self.pool.resize(options["pool"]["min_size"], max(1, most - lines))
        return Lines(parameters, lines, options["pool"]["max_lifetime"])

    # Savepoints and constraints belong to the connection, not to a tenant; and rolling back must work in a
    # broken transaction.
    def _savepoint(self, sid: str) -> None:
        self._raw(self.ops.savepoint_create_sql(sid))

    def _savepoint_rollback(self, sid: str) -> None:
        self._raw(self.ops.savepoint_rollback_sql(sid))

    def _savepoint_commit(self, sid: str) -> None:
        self._raw(self.ops.savepoint_commit_sql(sid))

    def _commit(self) -> None:
        try:
            write_pending(self)
        except BaseException:
            self.rollback()
            raise
        super()._commit()

    def check_constraints(self, table_names: Any = None) -> None:
        self._raw("SET CONSTRAINTS ALL IMMEDIATE")
        self._raw("SET CONSTRAINTS ALL DEFERRED")

    def _raw(self, statement: str) -> None:
        with self.wrap_database_errors, self.connection.cursor() as cursor:
            cursor.execute(statement)
