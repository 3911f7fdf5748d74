"""The database backend follows the context: whatever happened on the connection before, and on whichever thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.contrib.contenttypes.models import ContentType
from django.core.cache import cache
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, InternalError, connection, transaction
from psycopg_pool import ConnectionPool

from chatplatform import embedded, tenancy
from chatplatform.tenancy import NoTenant
from tenants.models import Contact, Tenant
from tenants.selectors import TenantState

SAME = UUID("01900000-0000-7000-8000-00000000fe9c")


def schema() -> str:
    """The schema that the next query runs on."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_schema()")
        return str(cursor.fetchone()[0])


def raw(statement: str) -> None:
    """A statement behind the fence's back, on the bare connection."""
    connection.ensure_connection()
    connection.connection.execute(statement)


def names() -> list[str]:
    return list(Contact.objects.filter(pk=SAME).values_list("name", flat=True))


@pytest.fixture
def twins(acme: TenantState, globex: TenantState) -> tuple[TenantState, TenantState]:
    """Both tenants have a contact with the same primary key and another name."""
    for tenant in (acme, globex):
        with tenancy.in_tenant(tenant.ref):
            Contact.objects.create(pk=SAME, name=tenant.name)
    return acme, globex


@pytest.fixture
def lasting_twins(committed: None) -> Iterator[tuple[TenantState, TenantState]]:
    """The same, outside a transaction, for other threads to see."""
    from chatplatform.testing import cast

    both = cast.state("acme"), cast.state("globex")
    for tenant in both:
        with tenancy.in_tenant(tenant.ref):
            Contact.objects.create(pk=SAME, name=tenant.name)
    yield both
    for tenant in both:
        with tenancy.in_tenant(tenant.ref):
            Contact.objects.filter(pk=SAME).delete()


Twins = tuple[TenantState, TenantState]


# --- No context, no cursor -------------------------------------------------------------------------------------
def test_a_query_without_a_context_is_refused(db: None) -> None:
    with pytest.raises(NoTenant):
        Contact.objects.count()
    with pytest.raises(NoTenant):
        Tenant.objects.count()
    with pytest.raises(NoTenant):
        connection.cursor()


def test_a_cursor_that_outlives_its_context_is_refused(acme: TenantState) -> None:
    with tenancy.in_tenant(acme.ref):
        cursor: Any = connection.cursor()
    with pytest.raises(NoTenant):
        cursor.execute("SELECT 1")
    with pytest.raises(NoTenant):
        cursor.executemany("SELECT %s", [[1]])


def test_a_lazy_queryset_runs_in_the_context_that_evaluates_it(twins: Twins) -> None:
    acme, globex = twins
    with tenancy.in_tenant(acme.ref):
        rows = Contact.objects.filter(pk=SAME)
    with pytest.raises(NoTenant):
        list(rows)
    with tenancy.in_tenant(globex.ref):
        assert rows.get().name == "Globex"


def test_the_platform_has_no_tenants_tables(db: None) -> None:
    with tenancy.in_platform():
        assert Tenant.objects.filter(slug__in=["acme", "globex"]).count() == 2
        with pytest.raises(DatabaseError), transaction.atomic():
            Contact.objects.count()


def test_the_tenant_of_a_connection_cannot_be_set(in_acme: TenantState) -> None:
    wrapper: Any = connection
    for enter in (lambda: wrapper.set_tenant(None), wrapper.set_schema_to_public):
        with pytest.raises(ImproperlyConfigured):
            enter()
    assert schema() == in_acme.ref.schema


def test_a_tenant_object_cannot_be_entered(in_acme: TenantState) -> None:
    for enter in (Tenant.__enter__, Tenant.activate, Tenant.deactivate):
        with pytest.raises(TypeError):
            enter(Tenant())


# --- One connection, whatever happened on it -------------------------------------------------------------------
def test_contexts_nest_inside_one_transaction(twins: Twins) -> None:
    acme, globex = twins
    with transaction.atomic(), tenancy.in_tenant(acme.ref):
        assert names() == ["Acme"]
        with tenancy.in_tenant(globex.ref):
            assert names() == ["Globex"]
            with tenancy.in_platform():
                assert schema() == "public"
            assert names() == ["Globex"]
        assert names() == ["Acme"]


def test_a_savepoint_that_is_rolled_back_does_not_take_the_tenant_with_it(twins: Twins) -> None:
    acme, globex = twins
    with tenancy.in_tenant(acme.ref), transaction.atomic():
        assert names() == ["Acme"]
        with pytest.raises(ZeroDivisionError), tenancy.in_tenant(globex.ref), transaction.atomic():
            assert names() == ["Globex"]
            raise ZeroDivisionError
        assert names() == ["Acme"]  # the rollback undid Acme's search_path too
        with tenancy.in_tenant(globex.ref):
            assert names() == ["Globex"]


def test_it_comes_back_after_an_error_in_a_transaction(twins: Twins) -> None:
    acme, globex = twins
    with tenancy.in_tenant(acme.ref):
        with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT no_such_column")
        assert names() == ["Acme"]
    with tenancy.in_tenant(globex.ref):
        assert names() == ["Globex"]


def test_a_broken_transaction_stays_broken_under_another_tenant(twins: Twins) -> None:
    acme, globex = twins
    with tenancy.in_tenant(acme.ref), pytest.raises(InternalError), transaction.atomic():
        with pytest.raises(DatabaseError), connection.cursor() as cursor:
            cursor.execute("SELECT no_such_column")
        with tenancy.in_tenant(globex.ref), connection.cursor() as cursor:
            cursor.execute("SELECT 1")


@pytest.mark.parametrize(
    "sabotage",
    ["RESET ALL", "RESET search_path", "SET search_path = public", "SET LOCAL search_path = public"],
)
def test_raw_settings_do_not_last(twins: Twins, sabotage: str) -> None:
    acme, globex = twins
    with tenancy.in_tenant(acme.ref):
        assert names() == ["Acme"]
        raw(sabotage)
        assert schema() == acme.ref.schema
        raw(f"SET search_path = {globex.ref.schema}, public")
        assert names() == ["Acme"]


def test_a_role_that_was_reset_reads_nothing(twins: Twins) -> None:
    with tenancy.in_tenant(twins[0].ref):
        assert names() == ["Acme"]
        with pytest.raises(DatabaseError), transaction.atomic():
            raw("RESET ROLE")
            names()
        assert names() == ["Acme"]


def test_a_raw_rollback_does_not_show_another_tenant(lasting_twins: Twins) -> None:
    acme, globex = lasting_twins
    with tenancy.in_tenant(globex.ref):
        assert names() == ["Globex"]
        raw("BEGIN")
    with tenancy.in_tenant(acme.ref):
        assert names() == ["Acme"]
        raw("ROLLBACK")  # the path on the connection is Globex's again
        assert names() == ["Acme"]


def test_a_connection_out_of_the_pool_serves_the_next_tenant(lasting_twins: Twins) -> None:
    acme, globex = lasting_twins
    backends: set[int] = set()
    connection.close()
    connection.close_pool()  # type: ignore[attr-defined] # tests before leave it connections that are taken by turns
    for tenant in (acme, globex) * 3:
        with tenancy.in_tenant(tenant.ref):
            assert names() == [tenant.name]
            backends.add(connection.connection.info.backend_pid)
        connection.close()  # back to the pool, with its role and path on
    assert len(backends) < 6, "no connection was used twice"


def test_a_server_side_cursor_reads_its_own_tenant(lasting_twins: Twins) -> None:
    acme, globex = lasting_twins
    with tenancy.in_tenant(globex.ref):
        assert names() == ["Globex"]
    with tenancy.in_tenant(acme.ref), transaction.atomic():
        rows: Iterator[Any] = Contact.objects.filter(pk=SAME).iterator(chunk_size=1)
        assert [row.name for row in rows] == ["Acme"]


def test_a_server_side_cursor_that_is_read_later_keeps_its_tenant(lasting_twins: Twins) -> None:
    acme, globex = lasting_twins
    with tenancy.in_tenant(acme.ref), transaction.atomic():
        Contact.objects.create(name="second")
        rows = Contact.objects.filter(name__in=["Acme", "second"]).order_by("name").iterator(chunk_size=1)
        assert next(rows).name == "Acme"
        with tenancy.in_tenant(globex.ref):
            assert names() == ["Globex"]
            assert next(rows).name == "second"
        transaction.set_rollback(True)


def test_bulk_and_executemany_stay_inside(twins: Twins) -> None:
    acme, globex = twins
    with tenancy.in_tenant(acme.ref):
        Contact.objects.bulk_create([Contact(name="bulk"), Contact(name="bulk")])
        with connection.cursor() as cursor:
            cursor.executemany("UPDATE tenants_contact SET name = %s WHERE name = %s", [("many", "bulk")])
        assert Contact.objects.filter(name="many").count() == 2
    with tenancy.in_tenant(globex.ref):
        assert not Contact.objects.filter(name__in=["many", "bulk"]).exists()


def test_copy_stays_inside(twins: Twins) -> None:
    acme, globex = twins
    with tenancy.in_tenant(globex.ref):
        assert names() == ["Globex"]
    with (
        tenancy.in_tenant(acme.ref),
        connection.cursor() as cursor,
        cursor.cursor.copy("COPY tenants_contact (name) TO STDOUT") as rows,
    ):
        assert b"Globex" not in b"".join(bytes(row) for row in rows)


# --- Threads and the event loop --------------------------------------------------------------------------------
async def test_a_query_without_a_context_is_refused_in_the_loop_and_in_its_threads(committed: None) -> None:
    with pytest.raises(NoTenant):
        await Contact.objects.acount()
    with pytest.raises(NoTenant):
        await sync_to_async(Contact.objects.count)()


async def test_interleaved_tasks_of_two_tenants_read_their_own_rows(lasting_twins: Twins) -> None:
    seen: list[tuple[str, str]] = []

    async def chat(tenant: TenantState) -> None:
        with tenancy.in_tenant(tenant.ref):
            for _ in range(10):
                contact = await Contact.objects.aget(pk=SAME)
                seen.append((tenant.name, contact.name))
                await asyncio.sleep(0)

    await asyncio.gather(*(chat(tenant) for tenant in lasting_twins * 2))
    assert len(seen) == 40
    assert all(tenant == name for tenant, name in seen)


async def test_parallel_threads_of_two_tenants_read_their_own_rows(lasting_twins: Twins) -> None:
    def read(tenant: TenantState) -> bool:
        with tenancy.in_tenant(tenant.ref):
            try:
                return names() == [tenant.name]
            finally:
                connection.close()

    work = [asyncio.to_thread(read, tenant) for tenant in lasting_twins * 10]
    assert all(await asyncio.gather(*work))


# --- What is kept outside the tenant's tables ------------------------------------------------------------------
def test_content_types_are_shared_and_out_of_a_tenants_reach(twins: Twins) -> None:
    ContentType.objects.clear_cache()
    for tenant in twins:
        with tenancy.in_tenant(tenant.ref), pytest.raises(DatabaseError), transaction.atomic():
            ContentType.objects.get_for_model(Contact)
    with tenancy.in_platform():
        shared = ContentType.objects.get_for_model(Contact).pk
    for tenant in twins:
        with tenancy.staff_view(tenant.ref):
            ContentType.objects.clear_cache()
            assert ContentType.objects.get_for_model(Contact).pk == shared


def test_equal_cache_keys_of_two_tenants_are_two_entries(twins: Twins) -> None:
    acme, globex = twins
    with tenancy.in_tenant(acme.ref):
        cache.set("greeting", "Acme's", 10)
    with tenancy.in_tenant(globex.ref):
        assert cache.get("greeting") is None
        cache.set("greeting", "Globex's", 10)
        cache.delete("greeting")
    with tenancy.in_tenant(acme.ref):
        assert cache.get("greeting") == "Acme's"
    with pytest.raises(NoTenant):
        cache.get("greeting")


# --- The pool --------------------------------------------------------------------------------------------------
def kept_connections(count: int) -> list[int]:
    """The server's process of each connection, after the pool has kept so many."""
    pool: Any = connection.pool  # type: ignore[attr-defined]
    pool.open()
    taken = [pool.getconn() for _ in range(count)]
    for one in taken:
        pool.putconn(one)
    return [one.info.backend_pid for one in taken]


def test_one_look_finds_all_connections_that_the_server_has_closed(
    committed: None, servers: embedded.Servers
) -> None:
    connection.close()
    killed = kept_connections(12)
    with psycopg.connect(servers.where.database_admin_url, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(pid, 1000) FROM unnest(%s) AS pid", [killed])
    began = time.monotonic()
    with tenancy.in_platform():
        assert Tenant.objects.exists()
    connection.close()
    assert not set(kept_connections(12)) & set(killed)
    assert time.monotonic() - began < 2


def test_a_connection_that_works_is_taken_without_a_round_trip(
    committed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_connections(1)

    def ask(one: Any) -> None:
        raise AssertionError("It was asked whether it works.")

    monkeypatch.setattr(ConnectionPool, "check_connection", ask)
    assert kept_connections(1)
