"""The platform as real processes: web server, Celery worker and beat, beside the provider simulator."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from django.conf import settings

from chatplatform.management.processes import web_command
from chatplatform.testing import cast
from chatplatform.testing.simulator import Simulator, running_simulator

READY_WITHIN = 100.0  # s; a machine that does much else takes its time
BEAT_EVERY = 1.0  # s; tests do not wait for the production's three


@dataclass
class Live:
    """A running platform. `keys` are API keys of the tenants by slug; `platform_key` is staff's."""

    port: int
    simulator: Simulator
    keys: Mapping[str, str]
    platform_key: str
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    data_dir: Path = field(default_factory=lambda: settings.DATA_DIR)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def api(self) -> str:
        return f"{self.url}/api/v1"

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    @property
    def log(self) -> Path:
        return self.data_dir / "live.log"

    def answers(self) -> bool:
        """Whether the web server is ready."""
        return _answers(f"{self.url}/readyz")

    def start(self, name: str) -> None:
        """Start a process by name, as `make run` does."""
        with self.log.open("ab") as log:
            self.processes[name] = subprocess.Popen(
                COMMANDS[name](self), stdout=log, stderr=log, env=self.environment, cwd=settings.BASE_DIR
            )

    def stop(self, name: str) -> None:
        """Stop a process; one that does not listen is killed."""
        process = self.processes.pop(name)
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def wait_until_ready(self) -> None:
        """Wait for the web server and the worker. Raises TimeoutError with the end of their log."""
        deadline = time.monotonic() + READY_WITHIN
        while time.monotonic() < deadline:
            if self.answers() and self.workers(1):
                return
            time.sleep(0.1)
        raise TimeoutError(self.log.read_text()[-4000:])

    def workers(self, count: int) -> bool:
        """Whether so many workers take jobs."""
        from chatplatform.celery import app

        return len(app.control.ping(timeout=0.5, limit=count) or ()) == count


def _celery(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "celery", "--quiet", "-A", "chatplatform", *arguments]


def _worker(name: str) -> Callable[[Live], list[str]]:
    alone = ("--without-gossip", "--without-mingle")
    return lambda live: _celery("worker", "-n", f"{name}-{live.port}@test", *alone)


def _web(server: str) -> Callable[[Live], list[str]]:
    return lambda live: [sys.executable, "-m", *web_command(server, "127.0.0.1", live.port)]


COMMANDS: Mapping[str, Callable[[Live], list[str]]] = {
    "daphne": _web("daphne"),
    "uvicorn": _web("uvicorn"),
    "worker": _worker("worker"),
    "worker-2": _worker("worker-2"),
    "beat": lambda live: _celery("beat", "--schedule", str(live.data_dir / "live-beat"), "--pidfile="),
}


@contextmanager
def running_platform(
    server: str = "daphne",
    *,
    simulator: Simulator | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Live]:
    """Start everything on free ports, against the servers of this test run.

    With a `simulator` of the caller's, and more `environment`, where they are given.
    """
    with ExitStack() as stack:
        simulator = simulator or stack.enter_context(running_simulator())
        keys = {slug: cast.key(slug) for slug in cast.NAMES}
        live = Live(free_port(), simulator, keys, cast.key(None))
        live.environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "chatplatform.settings",
            "DATA_DIR": str(settings.DATA_DIR),
            "PORT": str(live.port),
            "OPENAI_API_KEY": "simulated",
            "OPENAI_BASE_URL": simulator.openai_url,
            "ANTHROPIC_API_KEY": "simulated",
            "ANTHROPIC_BASE_URL": simulator.anthropic_url,
            "LOCAL_TOKENS_PER_SECOND": "60",
            "RECONCILE_EVERY": str(BEAT_EVERY),
            "INTER_TOKEN_TIMEOUT": "3",
            "LEASE_SECONDS": "3",
            "DRAIN_SECONDS": "2",
            "PING_EVERY": "3",
            "SLOW_CLIENT_SECONDS": "3",
            "MAX_CONNECTIONS_PER_CONTACT": "4",
            # Tests fail on purpose, again and again: each is to see its own failure, and not the circuit it opens.
            "BREAKER_LEAST_CALLS": "1000",
            "PROVIDER_RETRY_PAUSE": "0.02",
            # A busy machine is no outage of the limiter.
            "RATE_LIMIT_TIMEOUT": "5",
            # The backends that stand in for tenants' own are on this machine.
            "ALLOW_PRIVATE_KEY_SERVERS": "1",
            "LOG_LEVEL": "INFO",
            "LOG_FORMAT": "json",
            **(environment or {}),
        }
        for name in (server, "worker", "beat"):
            live.start(name)
        try:
            live.wait_until_ready()
            yield live
        finally:
            for process in live.processes.values():
                process.terminate()  # all at once, so that they end side by side
            for name in list(live.processes):
                live.stop(name)


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
