"""Who starts the servers, who attaches, and what happens when one of them is killed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import psycopg
import pytest
import redis

from chatplatform import embedded
from chatplatform.embedded import leftovers, ownership
from chatplatform.embedded.paths import locations
from chatplatform.embedded.servers import own
from chatplatform.embedded.tests.conftest import (
    StartHolder,
    eventually,
    is_alive,
    postmaster,
    query,
    valkey_server,
)

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DATA_DIR that an earlier run has left."""
    data_dir = tmp_path_factory.mktemp("made") / "data"
    with embedded.ensure(data_dir):
        pass
    return data_dir


@pytest.fixture
def data_dir(made: Path, tmp_path: Path) -> Path:
    """The same, for one test alone (a copy: cheaper than making it)."""
    copy = tmp_path / "data"
    shutil.copytree(made, copy)
    if os.geteuid() == 0:
        for path in (copy / "postgres", *(copy / "postgres").rglob("*")):
            original = (made / path.relative_to(copy)).stat()
            os.chown(path, original.st_uid, original.st_gid)
    return copy


def test_first_start_makes_database_logins_and_extension(tmp_path: Path) -> None:
    with embedded.ensure(tmp_path / "data") as servers:
        assert servers.owner
        with psycopg.connect(servers.where.database_url) as connection:
            row = connection.execute(
                "SELECT current_user, current_database(), version(), '[1,2]'::vector <-> '[1,3]'"
            ).fetchone()
        assert row is not None
        assert row[:2] == ("cp_app", "chatplatform")
        assert row[2].startswith("PostgreSQL 18")
        assert row[3] == 1.0
        names = ("fsync", "data_checksums", "listen_addresses")
        settings = [query(servers.where, f"SHOW {name}") for name in names]
        assert settings == [("on",), ("on",), ("",)]
        client = redis.Redis.from_url(servers.where.redis_url)
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("save") == {"save": ""}
        assert client.config_get("port") == {"port": "0"}
        client.close()
    assert not servers.where.sockets.exists()


def test_the_application_owns_nothing(data_dir: Path) -> None:
    with (
        embedded.ensure(data_dir, ["postgres"]) as servers,
        psycopg.connect(servers.where.database_url) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("CREATE TABLE mine (id int)")


def test_of_many_at_once_one_starts_and_the_others_attach(tmp_path: Path, hold: StartHolder) -> None:
    holders = [hold(tmp_path / "data") for _ in range(4)]
    assert sorted(holder.role() for holder in holders) == ["attached", "attached", "attached", "owner"]


def test_the_owner_waits_for_those_who_attached(data_dir: Path, hold: StartHolder) -> None:
    owner = hold(data_dir)
    assert owner.role() == "owner"
    guest = hold(data_dir)
    assert guest.role() == "attached"
    owner.let_go()
    assert not eventually(lambda: owner.process.poll() is not None, within=0.5)
    assert query(locations(data_dir), "SELECT 1") == (1,)
    assert guest.finish() == 0
    assert owner.process.wait(10) == 0


def test_servers_end_with_a_killed_owner_and_the_next_one_finds_the_data(
    data_dir: Path, hold: StartHolder
) -> None:
    where = locations(data_dir)
    owner = hold(data_dir)
    assert owner.role() == "owner"
    query(where, "CREATE TABLE kept AS SELECT 42 AS answer")
    server = postmaster(where)
    owner.kill()
    with embedded.ensure(data_dir) as servers:
        assert servers.owner
        assert not is_alive(server.pid)
        assert query(where, "SELECT answer FROM kept") == (42,)


def test_servers_that_outlive_their_owner_are_replaced(
    data_dir: Path, hold: StartHolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "PATIENCE", 0.5)
    where = locations(data_dir)
    owner = hold(data_dir)
    assert owner.role() == "owner"
    left_over = [postmaster(where), valkey_server(where)]
    for process in left_over:
        process.suspend()  # so that they do not hear of the owner's end
    owner.kill()
    with embedded.ensure(data_dir) as servers:
        assert servers.owner
        assert not any(is_alive(process.pid) for process in left_over)


def test_it_recovers_from_a_killed_postmaster_and_a_foreign_pid_in_its_file(data_dir: Path) -> None:
    where = locations(data_dir)
    with embedded.ensure(data_dir, ["postgres"]):
        query(where, "CREATE TABLE kept AS SELECT 42 AS answer")
        postmaster(where).kill()
    pid_file = where.postgres_data / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]))
    with embedded.ensure(data_dir, ["postgres"]):
        assert query(where, "SELECT answer FROM kept") == (42,)


def test_a_half_made_cluster_is_made_anew(tmp_path: Path) -> None:
    draft = tmp_path / "data" / "postgres.new"
    draft.mkdir(parents=True)
    (draft / "PG_VERSION").write_text("18\n")
    (draft / "base").mkdir()
    with embedded.ensure(tmp_path / "data", ["postgres"]) as servers:
        assert query(servers.where, "SELECT 1") == (1,)
    assert not draft.exists()


def test_another_versions_cluster_is_refused_with_a_reason(data_dir: Path) -> None:
    (locations(data_dir).postgres_data / "PG_VERSION").write_text("17\n")
    with pytest.raises(embedded.Failed, match="is of PostgreSQL 17, this is 18"), embedded.ensure(data_dir):
        pass


def test_two_data_dirs_run_side_by_side_one_of_them_deep(data_dir: Path, tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    with embedded.ensure(data_dir) as one, embedded.ensure(deep) as two:
        assert one.where.sockets != two.where.sockets
        assert all(redis.Redis.from_url(servers.where.redis_url).ping() for servers in (one, two))
        assert query(two.where, "SELECT 1") == (1,)
    assert not two.where.sockets.exists()


def test_who_wants_to_own_what_others_own_is_told_by_whom(data_dir: Path, hold: StartHolder) -> None:
    owner = hold(data_dir)
    assert owner.role() == "owner"
    with pytest.raises(embedded.Failed, match=rf"in use by holder\.py .*\(process {owner.process.pid}\)"):
        own(locations(data_dir), timeout=0.1)


def test_an_owner_that_does_not_serve_is_named(tmp_path: Path) -> None:
    where = locations(tmp_path / "data")
    lock = ownership.take_ownership(where.owner_lock)
    assert lock is not None
    with pytest.raises(embedded.Failed, match="do not answer"), embedded.ensure(where.data_dir, timeout=0.2):
        pass
    lock.release()
