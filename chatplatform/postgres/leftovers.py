"""Has PostgreSQL let go of what was deleted.

A deleted row stays in its table's file until the space is used again, and in the write-ahead log (WAL) as long as that
is kept. For what nobody may find who gets hold of the files, that is too long. Runs as the admin login.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from django.db import connections
from psycopg import errors, sql

from chatplatform.postgres.roles import ADMIN

LOCK_WITHIN = "2s"  # whoever wants the table waits behind us
# Rows that somebody's transaction might still see, because it is older than their end, would be written again.
OLDER = """
SELECT count(*) FROM (
    SELECT backend_xmin AS oldest FROM pg_stat_activity WHERE pid <> pg_backend_pid()
    UNION ALL SELECT xmin FROM pg_replication_slots
    UNION ALL SELECT transaction FROM pg_prepared_xacts
) AS others WHERE age(oldest) >= (SELECT min(age(deleting::xid)) FROM unnest(%s::text[]) AS deleting)
"""


class NotNow(Exception):
    """Somebody uses the table, or an older transaction goes on: to be tried again later."""


@contextmanager
def _admin() -> Iterator[psycopg.Connection]:
    params = connections[ADMIN].get_connection_params()
    params.pop("cursor_factory", None)
    params.pop("context", None)
    with psycopg.connect(**params, autocommit=True) as connection:
        yield connection


def rewrite(schema: str, table: str, deleting: list[str]) -> None:
    """Write a table anew, without what these transactions (their ids) have deleted from it. For small tables, as nobody
    can use them meanwhile. Raises NotNow.
    """
    with _admin() as admin:
        if admin.execute(OLDER, [deleting]).fetchone() != (0,):
            raise NotNow("an older transaction goes on")
        admin.execute(f"SET lock_timeout = '{LOCK_WITHIN}'")
        name = sql.Identifier(schema, table)
        before = _file(admin, name)
        try:
            admin.execute(sql.SQL("VACUUM (FULL) {}").format(name))
        except errors.LockNotAvailable as error:
            raise NotNow("the table is in use") from error
        if _file(admin, name) == before:  # PostgreSQL warns, and does nothing
            raise NotNow("this login may not")


def _file(admin: psycopg.Connection, table: sql.Identifier) -> object:
    return admin.execute("SELECT pg_relation_filenode(%s)", [table.as_string(admin)]).fetchone()


def leave_wal_behind() -> bool:
    """Begin a new file of WAL and make those before it superfluous; PostgreSQL removes them then, unless something
    (an archive, a replica) still wants them. False if this login may not; PostgreSQL does it by itself in its time."""
    with _admin() as admin:
        try:
            admin.execute("SELECT pg_switch_wal()")
            admin.execute("CHECKPOINT")
        except errors.InsufficientPrivilege:
            return False
    return True
