"""Makes the embedded servers be there: starts them if nobody has, else uses the running ones."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatplatform.embedded import ownership, postgres, valkey
from chatplatform.embedded.account import server_account
from chatplatform.embedded.ownership import FileLock
from chatplatform.embedded.paths import Locations, locations
from chatplatform.embedded.program import Server, signal_group

POSTGRES, VALKEY = "postgres", "valkey"
ALL = (POSTGRES, VALKEY)
MODULES = {POSTGRES: postgres, VALKEY: valkey}
POLL = 0.02
ATTEMPTS = 3


class Failed(Exception):
    """The servers cannot be had. The message is one for the person at the terminal."""


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers of a DATA_DIR, answering; `owner` tells whether this process runs them."""

    where: Locations
    owner: bool


@contextmanager
def ensure(data_dir: Path, only: Collection[str] = ALL, *, timeout: float = 60.0) -> Iterator[Servers]:
    """The embedded servers, answering for as long as the block lasts.

    The first process starts them and stops them at its end, after those that attached meanwhile are done.
    `only` names those that are needed ("postgres", "valkey"); `timeout` is seconds. Raises Failed.
    """
    where = locations(data_dir)
    owner, user = _claim(where, only, timeout)
    try:
        if owner is None:
            yield Servers(where, owner=False)
            return
        with running(where, only, timeout):
            try:
                yield Servers(where, owner=True)
            finally:
                user = _wait_for_others(where)
    finally:
        for lock in (user, owner):
            if lock:
                lock.release()


def own(where: Locations, timeout: float = 10.0, **note: Any) -> FileLock:
    """The ownership itself, for one that runs the servers as it likes; `note` is for those who attach.

    `timeout` is seconds; raises Failed if another process keeps it for longer.
    """
    deadline, told = time.monotonic() + timeout, False
    while (lock := ownership.take_ownership(where.owner_lock, **note)) is None:
        in_use = f"{where.data_dir} is in use by {ownership.describe_owner(where.owner_lock)}"
        if time.monotonic() > deadline:
            raise Failed(in_use)
        if not told:
            _tell(f"{in_use}: waiting for it to end")
            told = True
        time.sleep(POLL)
    return lock


def definitions(where: Locations, only: Collection[str] = ALL) -> list[Server]:
    """What the owner has to run. DATA_DIR must exist. Raises Failed where there is no such server."""
    try:
        account = server_account(where.data_dir)
        return [MODULES[name].server(where, account) for name in ALL if name in only]
    except (FileNotFoundError, KeyError) as error:
        raise Failed(str(error)) from error


def clear_sockets(where: Locations) -> None:
    """Remove the sockets' directory, which may lie in /tmp. For the owner, when all servers have ended."""
    shutil.rmtree(where.sockets, ignore_errors=True)


@contextmanager
def running(where: Locations, only: Collection[str], timeout: float) -> Iterator[None]:
    """The servers as children of this process, answering inside the block. For the owner."""
    where.logs.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.callback(clear_sockets, where)
        children = [_Child(server, where.logs) for server in definitions(where, only)]
        try:
            # Valkey first: it boots while PostgreSQL is being prepared.
            for child in reversed(children):
                child.start()
                stack.callback(child.stop)
            for child in children:
                child.wait_until_answering(timeout)
        except (OSError, RuntimeError) as error:
            raise Failed(str(error)) from error
        yield


def _claim(
    where: Locations, only: Collection[str], timeout: float
) -> tuple[FileLock | None, FileLock | None]:
    """The owner's lock or a user's, whichever can be had first."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if owner := ownership.take_ownership(where.owner_lock):
            return owner, None
        user = FileLock.take(where.users_lock, shared=True)
        if user and all(MODULES[name].is_ready(where) for name in only):
            return None, user
        if user:
            user.release()
        time.sleep(POLL)
    owner_name = ownership.describe_owner(where.owner_lock)
    raise Failed(f"The servers in {where.data_dir} belong to {owner_name}, and do not answer")


def _wait_for_others(where: Locations) -> FileLock | None:
    """The users' lock for this process alone: nobody is attached any more, and who comes now has to wait."""
    if lock := FileLock.take(where.users_lock):
        return lock
    _tell("Others use the embedded servers: waiting for them (Ctrl-C: stop anyway)")
    return FileLock.take(where.users_lock, wait=True)


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")


class _Child:
    """A server that this process runs without a supervisor."""

    def __init__(self, server: Server, logs: Path) -> None:
        self.server = server
        self.program = server.program
        self.log = logs / f"{self.program.name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.program.before_start()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.program.launch_command(), stdout=log, stderr=log, **self.program.launch_options()
            )

    def wait_until_answering(self, timeout: float) -> None:
        """Raises RuntimeError if it does not come up in `timeout` seconds, or keeps dying."""
        deadline, attempt = time.monotonic() + timeout, 1
        while not self.server.answers():
            if self._has_ended():
                # Orphans of a killed postmaster can hold its memory for a moment longer.
                if attempt == ATTEMPTS:
                    raise RuntimeError(f"{self.program.name} does not start: {self._last_words()}")
                attempt += 1
                time.sleep(0.5)
                self.start()
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.program.name} does not answer; its log is {self.log}")
            time.sleep(POLL)
        self.server.set_up()

    def stop(self) -> None:
        process = self.process
        if process is None or process.poll() is not None:
            return
        process.send_signal(self.program.stop_signal)
        try:
            process.wait(self.program.grace)
        except subprocess.TimeoutExpired:
            signal_group(process.pid, signal.SIGKILL)
            process.wait()

    def _has_ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return " ".join(lines[-3:]) or f"see {self.log}"
