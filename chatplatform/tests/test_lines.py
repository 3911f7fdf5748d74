"""Statements from the event loop: each answered for its own tenant, whatever happens to the one before on its line."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import tempfile
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import uvloop
from django.db import DataError, IntegrityError, OperationalError, connections
from psycopg.errors import ForeignKeyViolation, InsufficientPrivilege, UniqueViolation

from chatplatform import embedded, tenancy
from chatplatform.jobs import at_once
from chatplatform.postgres import base, lines, names, prepared
from chatplatform.postgres.prepared import Statement
from chatplatform.tenancy import NoTenant
from chatplatform.testing import cast
from tenants.models import Contact
from tenants.selectors import TenantState

SAME = UUID("01900000-0000-7000-8000-00000000f9ea")
NAME = Statement("SELECT name FROM tenants_contact WHERE id = %(id)s")
WHO = Statement("SELECT current_user::text, current_setting('search_path'), %(text)s::text")
BACKEND = Statement("SELECT pg_backend_pid()")
BACKENDS = Statement("SELECT pg_backend_pid(), pg_sleep(0.05)::text")
SLOWLY = Statement("SELECT pg_sleep(%(seconds)s)::text, %(text)s::text")
ADD = Statement("INSERT INTO tenants_contact (id, name, email, attributes, created_at, updated_at) "
                "VALUES (%(id)s, %(name)s, '', '{}', now(), now()) RETURNING name")  # fmt: skip


@pytest.fixture
def two(committed: None) -> list[TenantState]:
    """Acme and Globex, outside of a test's transaction."""
    return [cast.state("acme"), cast.state("globex")]


@pytest.fixture
async def outside(
    two: list[TenantState], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[list[TenantState]]:
    """The same, with two lines."""
    monkeypatch.setattr(base, "LINES", 2)
    yield two
    lines.close()


def wanted(tenant: TenantState) -> tuple[str, str]:
    with tenancy.in_tenant(tenant.ref):
        wrapper: Any = connections["default"]
        role, path = wrapper.wanted(tenancy.current_scope())
        return role, path


async def who(tenant: TenantState, text: str = "") -> Any:
    with tenancy.in_tenant(tenant.ref):
        [row] = await WHO.ask({"text": text})
    return row


async def backends(tenant: TenantState) -> set[int]:
    """The processes behind all lines."""
    with tenancy.in_tenant(tenant.ref):
        rows = await asyncio.gather(*(BACKENDS.ask({}) for _ in range(2)))
    return {pid for [(pid, _)] in rows}


async def test_each_is_answered_for_its_own_tenant_however_they_mix(outside: list[TenantState]) -> None:
    mixed = [random.choice(outside) for _ in range(300)]
    answers = await asyncio.gather(*(who(tenant, f"{n} %s é") for n, tenant in enumerate(mixed)))
    assert answers == [(*wanted(tenant), f"{n} %s é") for n, tenant in enumerate(mixed)]
    with tenancy.in_platform():
        assert (await WHO.ask({"text": ""}))[0][0].endswith("_platform")
    assert len(await backends(outside[0])) == 2


async def test_without_a_context_nothing_is_asked(outside: list[TenantState]) -> None:
    await who(outside[0])
    with pytest.raises(NoTenant):
        await WHO.ask({"text": ""})


async def test_a_fence_that_cannot_be_taken_on_leaves_the_statement_out(
    outside: list[TenantState], monkeypatch: pytest.MonkeyPatch
) -> None:
    acme, globex = outside
    for _ in range(3):
        await who(acme)
        await who(globex)
    guest = uuid4()
    with monkeypatch.context() as patched, tenancy.in_tenant(globex.ref):
        path = wanted(globex)[1] + ", another"
        patched.setattr(base.DatabaseWrapper, "wanted", lambda self, scope: ("pg_read_all_data", path))
        for _ in range(3):  # unprepared, to be prepared, and prepared
            with pytest.raises(Exception, match="pg_read_all_data") as caught:
                await ADD.ask({"id": guest, "name": "Nobody's"})
            assert isinstance(caught.value.__cause__, InsufficientPrivilege)
    for tenant in outside * 2:
        assert await who(tenant) == (*wanted(tenant), "")
        with tenancy.in_tenant(tenant.ref):
            assert await NAME.ask({"id": guest}) == []


async def test_errors_are_djangos_and_undo_the_statement_alone(outside: list[TenantState]) -> None:
    for _ in range(3):
        for tenant in outside:
            with tenancy.in_tenant(tenant.ref):
                guest = uuid4()
                assert await ADD.ask({"id": guest, "name": tenant.name}) == [(tenant.name,)]
                with pytest.raises(IntegrityError) as caught:
                    await ADD.ask({"id": guest, "name": "Again"})
                assert isinstance(caught.value.__cause__, UniqueViolation)
                with pytest.raises(DataError):
                    await NAME.ask({"id": "no id"})
                assert await NAME.ask({"id": guest}) == [(tenant.name,)]
                await Statement("DELETE FROM tenants_contact WHERE id = %(id)s").ask({"id": guest})


async def test_who_is_cancelled_leaves_nothing_for_the_next(outside: list[TenantState]) -> None:
    acme, globex = outside
    with tenancy.in_tenant(acme.ref):
        asked = [asyncio.create_task(SLOWLY.ask({"seconds": 0.1, "text": "stale"})) for _ in range(4)]
    await asyncio.sleep(0.05)  # two are under way, two wait for a line
    for one in asked:
        one.cancel()
    answers = await asyncio.gather(*(who(globex, str(n)) for n in range(10)))
    assert answers == [(*wanted(globex), str(n)) for n in range(10)]
    assert all(one.cancelled() for one in asked)
    assert len(await backends(acme)) == 2


async def test_a_line_that_was_cut_is_replaced(outside: list[TenantState], servers: embedded.Servers) -> None:
    acme, _ = outside
    before = await backends(acme)
    with tenancy.in_tenant(acme.ref), psycopg.connect(servers.where.database_admin_url) as admin:
        for pid in before:  # while nothing is under way: nobody notices
            admin.execute("SELECT pg_terminate_backend(%s, 1000)", [pid])
        after = await backends(acme)
        assert not before & after
        asked = [asyncio.create_task(SLOWLY.ask({"seconds": 5, "text": ""})) for _ in after]
        await asyncio.sleep(0.1)
        for pid in after:  # and while it is: who waits is told
            admin.execute("SELECT pg_terminate_backend(%s, 1000)", [pid])
        for error in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(error, OperationalError)
    assert len(await backends(acme)) == 2


async def test_a_server_that_is_away_is_told_and_asked_again(
    outside: list[TenantState], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setitem(connections["default"].settings_dict, "HOST", "/nowhere")
        for error in await asyncio.gather(*(who(outside[0]) for _ in range(5)), return_exceptions=True):
            assert isinstance(error, OperationalError)
    lines.close()
    assert len(await backends(outside[0])) == 2


async def test_what_is_only_found_wrong_at_the_commit_is_an_error_too(outside: list[TenantState]) -> None:
    orphan = Statement("INSERT INTO tenants_datakey (id, contact_id, tenant_key, wrapped, created_at) "
                       "VALUES (%(id)s, %(id)s, %(id)s, '', now()) RETURNING id")  # fmt: skip
    for _ in range(3):
        for tenant in outside:
            with tenancy.in_tenant(tenant.ref), pytest.raises(IntegrityError) as caught:
                await orphan.ask({"id": uuid4()})
            assert isinstance(caught.value.__cause__, ForeignKeyViolation)
            assert await who(tenant) == (*wanted(tenant), "")


async def test_a_statement_that_is_longer_than_a_socket_takes(outside: list[TenantState]) -> None:
    texts = ["é" * 3_000_000, "", "x" * 5_000_000]
    for (_, _, text), sent in zip(
        await asyncio.gather(*(who(outside[0], one) for one in texts)), texts, strict=True
    ):
        assert text == sent


async def test_what_leaves_something_open_is_not_used_again(outside: list[TenantState]) -> None:
    with tenancy.in_tenant(outside[0].ref):
        [(pid,)] = await BACKEND.ask({})
        await Statement("BEGIN").ask({})
        assert await BACKEND.ask({}) != [(pid,)]


async def test_a_line_lives_only_so_long(outside: list[TenantState], monkeypatch: pytest.MonkeyPatch) -> None:
    pool = {**connections["default"].settings_dict["OPTIONS"]["pool"], "max_lifetime": 0.1}
    monkeypatch.setitem(connections["default"].settings_dict["OPTIONS"], "pool", pool)
    before = await backends(outside[0])
    await asyncio.sleep(0.1)
    assert not before & await backends(outside[0])


async def test_a_table_that_has_changed_is_read_as_it_is_now(
    outside: list[TenantState], servers: embedded.Servers
) -> None:
    role, path = wanted(outside[0])
    look = Statement("SELECT * FROM tried")
    with psycopg.connect(servers.where.database_admin_url, autocommit=True) as admin:
        admin.execute(f'SET ROLE "{names.owner_role(admin.info.dbname)}"')
        admin.execute("SELECT set_config('search_path', %s, false)", [path])
        admin.execute("CREATE TABLE tried (id integer)")
        try:
            admin.execute("INSERT INTO tried VALUES (1)")
            admin.execute(f'GRANT SELECT ON tried TO "{role}"')
            with tenancy.in_tenant(outside[0].ref):
                assert [await look.ask({}) for _ in range(6)] == [[(1,)]] * 6
                admin.execute("ALTER TABLE tried ALTER id TYPE text, ADD more integer DEFAULT 2")
                assert [await look.ask({}) for _ in range(6)] == [[("1", 2)]] * 6
                await Statement("DEALLOCATE ALL").ask({})
                assert [await look.ask({}) for _ in range(6)] == [[("1", 2)]] * 6
        finally:
            admin.execute("DROP TABLE tried")


async def test_those_that_were_not_used_for_longest_are_forgotten(
    outside: list[TenantState], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared, "MOST_KEPT", 2)
    monkeypatch.setattr(base, "LINES", 1)
    count = Statement("SELECT count(*) FROM pg_prepared_statements")
    many = [Statement(f"SELECT {number}") for number in range(4)]
    with tenancy.in_tenant(outside[0].ref):
        for _ in range(3):
            for one in (many[0], many[0], many[1], many[1], many[2], many[2]):
                await one.ask({})
        assert (await count.ask({}))[0][0] <= 2
        assert [await one.ask({}) for one in many] == [[(number,)] for number in range(4)]


def server_that_breaks_off(folder: Path) -> threading.Thread:
    """A server that lets somebody in, and is killed when it has been asked something that it has not read."""

    def said(kind: bytes, text: bytes) -> bytes:
        return kind + struct.pack(">i", len(text) + 4) + text

    def serve() -> None:
        with listening, listening.accept()[0] as client:
            client.recv(10_000)
            settings = b"server_version\x0018.0\x00", b"client_encoding\x00UTF8\x00"
            parts = [said(b"R", bytes(4)), *(said(b"S", one) for one in settings), said(b"Z", b"I")]
            client.sendall(b"".join(parts))
            client.recv(1, socket.MSG_PEEK)

    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(folder / ".s.PGSQL.5432"))
    listening.listen()
    serving = threading.Thread(target=serve, daemon=True)
    serving.start()
    return serving


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_connection_that_breaks_with_an_error_is_noticed(loop: Any) -> None:
    async def ask() -> None:
        asked = lines.Lines({"host": folder, "user": "x", "dbname": "x"}, 1, 60.0)
        async with asyncio.timeout(5):
            with pytest.raises(psycopg.OperationalError):
                await asked.run(BACKEND, {}, lines.Fence("", b"SELECT 1"))
        assert not asked._asked and not asked._open

    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=loop) as runner:
        serving = server_that_breaks_off(Path(folder))
        runner.run(ask())
        serving.join()


def test_where_no_loop_runs_it_is_part_of_the_threads_transaction(acme: TenantState) -> None:
    with tenancy.in_tenant(acme.ref):
        Contact.objects.create(pk=SAME, name="Uncommitted")
        assert at_once(NAME.ask({"id": SAME})) == [("Uncommitted",)]
