"""Everything follows from DATA_DIR, and starts nothing."""

from __future__ import annotations

import os
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from chatplatform.embedded.paths import LONGEST_SOCKET_PATH, POSTGRES_SOCKET, locations


def test_it_touches_no_file(tmp_path: Path) -> None:
    locations(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_the_application_and_the_admin_log_in_to_one_database(tmp_path: Path) -> None:
    where = locations(tmp_path)
    application, admin = conninfo_to_dict(where.database_url), conninfo_to_dict(where.database_admin_url)
    assert (application.pop("user"), admin.pop("user")) == ("cp_app", "cp_admin")
    assert application == admin == {"dbname": "chatplatform", "host": str(where.sockets)}


def test_strange_characters_survive_the_urls() -> None:
    where = locations(Path("/tmp/a b,c%20é&x=1"))
    assert conninfo_to_dict(where.database_url)["host"] == str(where.sockets)
    assert where.redis_url == "unix:///tmp/a%20b%2Cc%2520%C3%A9%26x%3D1/sockets/valkey.sock"


def test_sockets_lie_beside_the_data_if_the_path_is_short() -> None:
    assert locations(Path("/srv/data")).sockets == Path("/srv/data/sockets")


def test_a_deep_data_dir_gets_short_socket_paths_of_its_own() -> None:
    deep = Path("/srv") / ("d" * 60) / ("e" * 60)
    first, second = locations(deep / "one").sockets, locations(deep / "two").sockets
    assert first != second
    assert first == locations(deep / "one").sockets
    assert len(os.fsencode(first / POSTGRES_SOCKET)) <= LONGEST_SOCKET_PATH
