"""Prepared statements answer as others do: for the tenant in force, also where what was prepared holds no more."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import (
    DatabaseError,
    DataError,
    IntegrityError,
    OperationalError,
    connection,
    connections,
    transaction,
)
from psycopg.errors import UniqueViolation
from psycopg.pq.abc import PGconn, PGresult

from chatplatform import embedded, tenancy
from chatplatform.postgres import base, prepared
from chatplatform.postgres.prepared import Statement, reported_path
from chatplatform.tenancy import NoTenant
from chatplatform.testing import cast
from tenants.models import Contact
from tenants.selectors import TenantState

SAME = UUID("01900000-0000-7000-8000-00000000f9e9")
NAME = Statement("SELECT name FROM tenants_contact WHERE id = %(id)s")
RENAME = Statement("UPDATE tenants_contact SET name = %(name)s WHERE id = %(id)s")
ECHO = Statement("SELECT %(number)s::bigint, %(again)s::text, %(number)s::bigint + 1, '%%'")


@pytest.fixture
def fresh(committed: None) -> Iterator[Any]:
    """A connection that has prepared nothing yet, outside a transaction. What is left behind goes with it."""
    connections["default"].close()
    with tenancy.in_platform():
        connection.ensure_connection()
    connection.connection.execute("DEALLOCATE ALL")
    vars(connection.connection).pop("kept_statements", None)
    yield connection
    connection.close()


@pytest.fixture
def outside(fresh: Any) -> TenantState:
    """Acme, outside of a test's transaction."""
    return cast.state("acme")


def kept() -> int:
    """How many statements the server has prepared for this connection."""
    here = connection.connection
    # `cast.state` asks one of its own.
    others = "SELECT count(*) FROM pg_prepared_statements WHERE statement NOT LIKE '%tenants_tenant%'"
    return int(here.execute(others).fetchone()[0])


def test_each_tenant_is_answered_from_its_own_schema(acme: TenantState, globex: TenantState) -> None:
    for tenant in (acme, globex):
        with tenancy.in_tenant(tenant.ref):
            Contact.objects.create(pk=SAME, name=tenant.name)
    for _ in range(3):  # as it is seen first, prepared, and as it was prepared
        for tenant in (acme, globex):
            with tenancy.in_tenant(tenant.ref):
                assert NAME.run({"id": SAME}) == [(tenant.name,)]
    with pytest.raises(NoTenant):
        NAME.run({"id": SAME})


def test_a_statement_is_prepared_when_it_comes_again_and_once_for_each_tenant(
    fresh: Any, outside: TenantState
) -> None:
    for tenant, expected in ((outside, [0, 1, 1]), (cast.state("globex"), [1, 2, 2])):
        with tenancy.in_tenant(tenant.ref):
            counts = []
            for _ in range(3):
                NAME.run({"id": SAME})
                counts.append(kept())
        assert counts == expected


@pytest.mark.parametrize("number", [1, 2**40, None])
def test_values_of_any_size_are_one_statement(fresh: Any, outside: TenantState, number: int | None) -> None:
    with tenancy.in_tenant(outside.ref):
        for value in (7, 70_000, number):
            after = None if value is None else value + 1
            assert ECHO.run({"number": value, "again": "%(number)s"}) == [(value, "%(number)s", after, "%")]
        assert kept() == 1


def test_a_statement_that_answers_nothing_has_no_rows(in_acme: TenantState) -> None:
    Contact.objects.create(pk=SAME, name="Before")
    for name in ("One", "Two", "Three"):
        assert RENAME.run({"id": SAME, "name": name}) == []
        assert Contact.objects.get(pk=SAME).name == name


def test_those_that_were_not_used_for_longest_are_forgotten(
    fresh: Any, outside: TenantState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared, "MOST_KEPT", 2)
    many = [Statement(f"SELECT {number}") for number in range(4)]
    with tenancy.in_tenant(outside.ref):
        for statement in [*many, *many[:1] * 2, *many[1:2] * 2, *many[2:3] * 2]:
            statement.run({})
        assert kept() == 2
        assert [statement.run({}) for statement in many] == [[(number,)] for number in range(4)]


def test_a_table_that_has_changed_is_read_as_it_is_now(fresh: Any, outside: TenantState) -> None:
    with tenancy.in_tenant(outside.ref), closing(connections["admin"]) as admin, admin.cursor() as cursor:
        cursor.execute("CREATE TABLE tried (id integer)")
        try:
            cursor.execute("INSERT INTO tried VALUES (1)")
            role = fresh.wanted(tenancy.current_scope())[0]
            cursor.execute(f'GRANT SELECT ON tried TO "{role}"')
            look = Statement("SELECT * FROM tried")
            assert [look.run({}) for _ in range(3)] == [[(1,)]] * 3
            cursor.execute("ALTER TABLE tried ALTER id TYPE text, ADD more integer DEFAULT 2")
            assert look.run({}) == [("1", 2)]
        finally:
            cursor.execute("DROP TABLE tried")


def test_a_connection_that_was_reset_prepares_again(fresh: Any, outside: TenantState) -> None:
    with tenancy.in_tenant(outside.ref):
        for _ in range(3):
            NAME.run({"id": SAME})
        fresh.connection.execute("DEALLOCATE ALL")
        assert NAME.run({"id": SAME}) == []


def test_a_transaction_holds_it_and_undoes_it(fresh: Any, outside: TenantState) -> None:
    guest = uuid4()
    add = Statement("INSERT INTO tenants_contact (id, name, email, attributes, created_at, updated_at) "
                    "VALUES (%(id)s, %(name)s, '', '{}', now(), now())")  # fmt: skip
    with tenancy.in_tenant(outside.ref):
        for _ in range(3):
            with pytest.raises(ZeroDivisionError), transaction.atomic():
                add.run({"id": guest, "name": "Gone"})
                assert NAME.run({"id": guest}) == [("Gone",)]
                raise ZeroDivisionError
            assert NAME.run({"id": guest}) == []


def test_errors_are_djangos(in_acme: TenantState) -> None:
    Contact.objects.create(pk=SAME, name="First")
    again = Statement("INSERT INTO tenants_contact SELECT * FROM tenants_contact WHERE id = %(id)s")
    for _ in range(3):
        with pytest.raises(IntegrityError) as caught, transaction.atomic():
            again.run({"id": SAME})
        assert isinstance(caught.value.__cause__, UniqueViolation)
    with pytest.raises(DataError), transaction.atomic():
        NAME.run({"id": "no id"})


@pytest.mark.parametrize("slug", ["acme", "globex"])  # another tenant's role would have to be taken on
def test_a_connection_that_was_cut_says_so(
    fresh: Any, outside: TenantState, servers: embedded.Servers, slug: str
) -> None:
    then = cast.state(slug)
    for tenant in (then, then, outside, outside):
        with tenancy.in_tenant(tenant.ref):
            NAME.run({"id": SAME})
    with psycopg.connect(servers.where.database_admin_url) as admin:
        admin.execute("SELECT pg_terminate_backend(%s, 1000)", [fresh.connection.info.backend_pid])
    with tenancy.in_tenant(then.ref):
        with pytest.raises(OperationalError):
            NAME.run({"id": SAME})
        fresh.close()
        assert NAME.run({"id": SAME}) == []


def test_a_connection_that_is_gone_leaves_nothing_behind(servers: embedded.Servers) -> None:
    with psycopg.connect(servers.where.database_admin_url) as gone:
        prepared.of_connection(gone).run(Statement("SELECT 1"), {}, "public")
    trace = weakref.ref(gone)
    del gone
    gc.collect()
    assert trace() is None


def test_the_change_of_role_goes_out_in_the_same_round_trip(fresh: Any, outside: TenantState) -> None:
    alone = list[bytes]()

    def note(server: PGconn, asked: bytes) -> PGresult:
        alone.append(asked)
        return server.exec_(asked)

    by_turns = (outside, cast.state("globex"))
    for tenant in by_turns * 4:  # seen first, prepared, and then twice as it was prepared
        with tenancy.in_tenant(tenant.ref), pytest.MonkeyPatch.context() as patched:
            patched.setattr(prepared, "ask", note)
            assert NAME.run({"id": SAME}) == []
            assert reported_path(fresh.connection.pgconn) == fresh.wanted(tenancy.current_scope())[1]
    assert len(alone) == 2, "only where the statement had to be prepared"


def test_a_role_that_cannot_be_taken_on_leaves_the_statement_out(
    fresh: Any, outside: TenantState, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tenancy.in_tenant(outside.ref):
        for _ in range(2):
            NAME.run({"id": SAME})
    before = connection.connection.pgconn.parameter_status(b"search_path")
    wrong = base._switch("nobody_has_this_name", "pg_catalog")
    with tenancy.in_platform(), monkeypatch.context() as patched:
        patched.setattr(base, "_switch", lambda role, path: wrong)
        with pytest.raises(DatabaseError, match="nobody_has_this_name"):
            NAME.run({"id": SAME})
    assert connection.connection.pgconn.parameter_status(b"search_path") == before
    with tenancy.in_tenant(outside.ref):
        assert NAME.run({"id": SAME}) == []


def test_what_is_too_much_for_the_socket_arrives_behind_a_change_of_role(
    fresh: Any, outside: TenantState
) -> None:
    for text in ("once", "prepared", "large " * 2_000_000):  # 12 MB, there and back
        for tenant in (outside, cast.state("globex")):
            with tenancy.in_tenant(tenant.ref):
                assert ECHO.run({"number": 1, "again": text}) == [(1, text, 2, "%")]
