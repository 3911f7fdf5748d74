"""Which process runs the servers of a DATA_DIR, and who else uses them.

Two file locks, which the kernel releases however their holder dies: the owner holds `owner.lock` alone;
everybody who attached holds `users.lock` together, and an owner that lets others finish takes that one alone
before it stops.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from pathlib import Path
from typing import Any


class FileLock:
    """A lock on a file, held until `release` or the end of the process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, file: Path, *, shared: bool = False, wait: bool = False) -> FileLock | None:
        """The lock, or None if somebody is in the way and `wait` is off."""
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        mode = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
        try:
            fcntl.flock(descriptor, mode)
        except BaseException as error:
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                return None
            raise
        return cls(descriptor)

    def write(self, value: dict[str, Any]) -> None:
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(value).encode(), 0)

    def release(self) -> None:
        os.close(self._descriptor)


def take_ownership(file: Path, **more: Any) -> FileLock | None:
    """The owner's lock, with a note for the others who holds it, and `more`; None if another process does."""
    lock = FileLock.take(file)
    if lock:
        command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
        lock.write({"pid": os.getpid(), "command": command, **more})
    return lock


def owners_note(file: Path) -> dict[str, Any]:
    """What the holder of the owner's lock left for the others; empty if that cannot be read."""
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def describe_owner(file: Path) -> str:
    """Who holds the owner's lock, for a message: `manage.py shell (process 42)`."""
    note = owners_note(file)
    return (
        f"{note['command']} (process {note['pid']})"
        if {"command", "pid"} <= note.keys()
        else "another process"
    )
