"""What a run costs the machine: CPU and memory of each part of the platform, out of the kernel's own counts."""

from __future__ import annotations

import os
import platform
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from loadtests.figures import between

SAMPLE_EVERY, LOOK_EVERY = 0.5, 2.0  # s
# Which process is which part, by a word of its command line; its children belong to it.
PARTS = {
    "chatplatform.daphne_server": "web",
    "uvicorn": "web",
    "celery worker": "worker",
    "celery beat": "beat",
    "postgres": "postgres",
    "valkey": "valkey",
    "testing.simulator": "simulator",
    "loadtests.client": "client",
    "litellm": "litellm",
}
PLATFORM = ("web", "worker", "beat", "postgres", "valkey")
PACKAGES = ("django", "channels", "daphne", "uvicorn", "celery", "redis", "psycopg", "openai", "aiohttp")


def parts() -> dict[str, list[psutil.Process]]:
    """The processes below this one, by part."""
    found: dict[str, list[psutil.Process]] = defaultdict(list)
    for child in psutil.Process().children():
        with _may_have_ended():
            if part := _part(" ".join(child.cmdline())):
                found[part] += [child, *child.children(recursive=True)]
    return found


def _part(command: str) -> str:
    words = command.replace("--quiet -A chatplatform ", "")
    return next((part for word, part in PARTS.items() if word in words), "")


@contextmanager
def _may_have_ended() -> Iterator[None]:
    try:
        yield
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        pass


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """CPU that they have used, and what their ended children had."""
    total = 0.0
    for process in processes:
        with _may_have_ended():
            total += sum(process.cpu_times()[:4])
    return total


def memory_kb(names: tuple[str, ...] = PLATFORM) -> dict[str, int]:
    """Memory by part: pages that several processes share are counted once (PSS; Linux only)."""
    found = parts()
    return {name: sum(_pss_kb(process.pid) for process in found[name]) for name in names if found[name]}


def _pss_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


class Sampler:
    """Notes the CPU time of each part twice a second."""

    def __init__(self) -> None:
        self._samples: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        found, looked = parts(), time.monotonic()
        while not self._stop.wait(SAMPLE_EVERY):
            if time.monotonic() - looked > LOOK_EVERY:  # connections make PostgreSQL's processes come and go
                found, looked = parts(), time.monotonic()
            for name, processes in found.items():
                self._samples[name].append((time.monotonic(), cpu_seconds(processes)))
        self._samples = defaultdict(list, {name: kept for name, kept in self._samples.items() if kept})

    def used(self, begin: float, end: float) -> dict[str, float]:
        """Seconds of CPU by part between these times."""
        return {name: between(samples, begin, end) for name, samples in self._samples.items() if samples}


def cpu_per_thousand(used: dict[str, float], count: float) -> dict[str, float]:
    """Milliseconds of CPU for 1,000 of what was counted."""
    return {name: 1e6 * seconds / count for name, seconds in used.items()} if count else {}


def facts(root: Path) -> dict[str, Any]:
    """The machine, and what ran on it."""
    git: Callable[..., str] = lambda *words: _output("git", "-C", str(root), *words)  # noqa: E731
    return {
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_model(),
        "python": platform.python_version(),
        "python_loop_ms": python_loop_ms(),
        "versions": {name: version(name) for name in PACKAGES},
        "commit": git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain") else ""),
        "busy_before_percent": psutil.cpu_percent(LOOK_EVERY),
    }


def python_loop_ms() -> float:
    """How long a fixed piece of pure Python takes, the best of twenty: interpreters of one version differ in this by a
    third, by how they were built, and a machine by its neighbours.
    """

    def step(counts: dict[str, int], number: int) -> int:
        counts[str(number)] = number
        return len(counts)

    def run() -> float:
        began, counts = time.perf_counter(), dict[str, int]()
        assert sum(step(counts, number) for number in range(4_000))
        return 1000 * (time.perf_counter() - began)

    return min(run() for _ in range(20))


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), "")
    except OSError:
        return platform.processor()


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
