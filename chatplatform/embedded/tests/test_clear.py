"""`make clean` deletes a data directory, and nothing else."""

from __future__ import annotations

from pathlib import Path

from chatplatform.embedded import ownership
from chatplatform.embedded.clear import clear
from chatplatform.embedded.paths import locations


def test_it_deletes_what_nobody_uses(tmp_path: Path) -> None:
    where = locations(tmp_path / "data")
    lock = ownership.take_ownership(where.owner_lock)
    assert lock is not None
    lock.release()
    assert clear(where.data_dir) is None
    assert not where.data_dir.exists()


def test_it_refuses_while_somebody_owns_it(tmp_path: Path) -> None:
    where = locations(tmp_path / "data")
    lock = ownership.take_ownership(where.owner_lock)
    assert lock is not None
    assert "is in use by" in (clear(where.data_dir) or "")
    assert where.owner_lock.exists()
    lock.release()


def test_it_refuses_what_is_no_data_directory(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    assert "does not look like" in (clear(tmp_path) or "")
    assert (tmp_path / "thesis.txt").exists()


def test_it_has_nothing_to_do_where_nothing_is(tmp_path: Path) -> None:
    assert clear(tmp_path / "nothing") is None
