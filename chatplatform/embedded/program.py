"""A program to run as a child: what to start, as whom, and how it is told to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chatplatform.embedded.account import SELF, Account

LAUNCHER = Path(__file__).with_name("launch.py")


@dataclass(frozen=True, slots=True)
class Program:
    """One child process. Times are seconds.

    `before_start` runs before every start, restarts included (it may block). On `stop_signal` the child has
    `grace` to end before it is killed; `death_signal` is what it gets should its parent die first.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] | None = None
    directory: Path | None = None
    account: Account = SELF
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL
    grace: float = 5.0
    before_start: Callable[[], None] = field(default=lambda: None)

    def launch_command(self) -> list[str]:
        """The command that ties the child to this process; see launch.py."""
        launcher = [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), str(int(self.death_signal))]
        return [*launcher, str(self.account.uid), str(self.account.gid), *self.command]

    def launch_options(self) -> dict[str, Any]:
        """Keyword arguments for subprocess.Popen and its asyncio twin."""
        return {
            "cwd": self.directory,
            "env": self.environment,
            "stdin": subprocess.DEVNULL,
            # A session of its own: Ctrl-C in the terminal reaches only the one who stops things in order.
            "start_new_session": True,
        }


@dataclass(frozen=True, slots=True)
class Server:
    """A program that others connect to. `answers` tries a real connection; `set_up` (safe to repeat)
    makes what its users expect to find, once it answers."""

    program: Program
    answers: Callable[[], bool]
    set_up: Callable[[], None] = field(default=lambda: None)


def signal_group(pid: int, number: signal.Signals) -> None:
    """Send a signal to the process group that a child leads. A group that is gone is no error."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):  # macOS says the latter of a zombie
        pass
