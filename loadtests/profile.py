"""Where web server and worker spend their time while replies stream: a sampling profile by py-spy."""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from loadtests.machine import parts

SECONDS, RATE = 8, 100
WATCHED = ("web", "worker")
SHOWN = 14
_FRAME = re.compile(r"(?P<function>.+?) \((?P<file>[^():]+)(?::\d+)?\)$")
OWN = ("conversations/", "chatplatform/", "tenants/")


def start(program: str, folder: Path) -> dict[str, subprocess.Popen[bytes]]:
    """Begin to watch; it ends by itself. Of the platform's own processes, so it needs the right to trace them."""
    found = parts()
    # Only who has the interpreter: on a busy machine a thread that waits is taken for one that works.
    options = ("record", "--gil", "--duration", str(SECONDS), "--rate", str(RATE), "--format", "raw")
    return {
        name: subprocess.Popen(
            [program, *options, "--output", str(folder / f"{name}.raw"), "--pid", str(found[name][0].pid)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for name in WATCHED
    }


def finish(running: dict[str, subprocess.Popen[bytes]], folder: Path) -> dict[str, Any]:
    """What each of them was busy with. Raises OSError where py-spy could not."""
    for process in running.values():
        process.wait(SECONDS + 60)
    return {name: summed_up((folder / f"{name}.raw").read_text().splitlines()) for name in running}


def summed_up(lines: Iterable[str]) -> dict[str, Any]:
    """Shares of the time that was spent, largest first, out of py-spy's raw lines (`outer;…;inner count`).

    `own`: by the innermost function of the project, with all that it calls in libraries; where there is none, by the
    outermost library. `self`: by the innermost function at all.
    """
    own, inner = Counter[str](), Counter[str]()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        frames = [_named(frame) for frame in stack.split(";")]
        if not frames or "EpollSelector.select (selectors.py)" in frames[-1]:  # it waits
            continue
        own[_owner(frames)] += int(count)
        inner[frames[-1]] += int(count)
    return {"samples": own.total(), "own": _shares(own), "self": _shares(inner)}


def _named(frame: str) -> str:
    """A frame without its line number."""
    found = _FRAME.match(frame)
    return f"{found['function']} ({found['file']})" if found else frame


def _owner(frames: list[str]) -> str:
    own = (frame for frame in reversed(frames) if frame.rpartition("(")[2].startswith(OWN))
    libraries = (frame for frame in reversed(frames) if os.sep in frame.rpartition("(")[2])
    return next(own, None) or "not ours: " + next(libraries, frames[-1])


def _shares(counts: Counter[str]) -> list[tuple[str, float]]:
    return [(name, count / counts.total()) for name, count in counts.most_common(SHOWN)]
