"""Processes that hold the embedded servers, and questions about what runs."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from chatplatform.embedded.paths import Locations

ROOT = Path(__file__).resolve().parents[3]
HOLDER = "chatplatform.embedded.tests.holder"
StartHolder = Callable[[Path], "Holder"]


class Holder:
    """A running holder process."""

    def __init__(self, data_dir: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", HOLDER, str(data_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def role(self) -> str:
        """`owner` or `attached`, once the servers answer; empty if it died before."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def let_go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def finish(self) -> int:
        """Let it end by itself; its exit status."""
        self.let_go()
        return self.process.wait(20)


@pytest.fixture
def hold() -> Iterator[StartHolder]:
    """Starts holders, and ends those that a test leaves running."""
    holders: list[Holder] = []

    def start(data_dir: Path) -> Holder:
        holders.append(Holder(data_dir))
        return holders[-1]

    yield start
    # All at once: an owner waits for those who attached.
    for holder in holders:
        holder.let_go()
    for holder in holders:
        holder.process.wait(20)


def postmaster(where: Locations) -> psutil.Process:
    """The PostgreSQL that serves a DATA_DIR."""
    return psutil.Process(int((where.postgres_data / "postmaster.pid").read_text().splitlines()[0]))


def valkey_server(where: Locations) -> psutil.Process:
    """The Valkey that serves a DATA_DIR."""
    for process in psutil.process_iter(["name", "cmdline"]):
        if process.info["name"] == "valkey-server" and str(where.valkey_data) in (
            process.info["cmdline"] or []
        ):
            return process
    raise LookupError(where.valkey_data)


def query(where: Locations, statement: str) -> tuple[object, ...] | None:
    """The first row of a statement, as the superuser."""
    with psycopg.connect(where.database_admin_url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchone() if cursor.description else None


def eventually(holds: Callable[[], bool], within: float = 8.0) -> bool:
    """Whether something comes true within so many seconds."""
    deadline = time.monotonic() + within
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def is_alive(pid: int) -> bool:
    """Whether a process is there and not just waiting for its parent to notice that it ended."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
