"""A platform to break: servers and processes of its own, each of which can be killed, paused and started again.

The servers of the test run stay out of it: this one has another DATA_DIR, another database, another broker.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
import redis
from django.conf import settings

from chatplatform.embedded import locations
from chatplatform.embedded.program import Server, signal_group
from chatplatform.embedded.servers import clear_sockets, definitions
from chatplatform.testing.live import READY_WITHIN, Live, free_port
from chatplatform.testing.simulator import Simulator, running_simulator

LEASE, RECONCILE = 2.0, 0.5  # s; quicker than in production, so that a test need not wait for 10 s
WORKERS = ("worker", "worker-2")
PATIENCE = 30.0


class Stage(Live):
    """See above. `servers` are "postgres" and "valkey"."""

    def __init__(self, data_dir: Path, simulator: Simulator, environment: Mapping[str, str]) -> None:
        super().__init__(free_port(), simulator, {}, "", data_dir=data_dir)
        self.where = locations(data_dir)
        self.where.logs.mkdir(parents=True, exist_ok=True)
        self.environment = dict(environment)
        self._definitions: dict[str, Server] = {
            server.program.name: server for server in definitions(self.where)
        }

    # --- The servers -------------------------------------------------------------------------------------------
    def start_server(self, name: str) -> None:
        """Start "postgres" or "valkey" and wait until it answers."""
        server = self._definitions[name]
        server.program.before_start()
        with (self.where.logs / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                server.program.launch_command(), stdout=log, stderr=log, **server.program.launch_options()
            )
        until(server.answers, f"{name} answers")
        server.set_up()

    def kill_server(self, name: str) -> None:
        """As the kernel's out-of-memory killer would: with everything it has started."""
        process = self.processes.pop(name)
        signal_group(process.pid, signal.SIGKILL)
        process.wait()

    @property
    def valkey(self) -> Any:
        """A client of the broker, event log and cache."""
        return redis.Redis(unix_socket_path=str(self.where.valkey_socket))

    def rows(self, statement: str, *values: Any, tenant: str = "acme") -> list[Any]:
        """Rows as the database's superuser sees them, in a tenant's schema."""
        with psycopg.connect(self.where.database_admin_url, autocommit=True) as connection:
            if statement.startswith("SET"):
                raise ValueError("Each call has a connection of its own.")
            (schema,) = connection.execute(
                "SELECT schema_name FROM tenants_tenant WHERE slug = %s", [tenant]
            ).fetchone() or ("",)
            connection.execute("SELECT set_config('search_path', %s, false)", [f"{schema}, public"])
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def sweep(self) -> None:
        """Give back what dead attempts hold of budgets, without waiting until that is due."""
        _run("chatplatform.testing.sweep", self.environment)

    # --- The workers -------------------------------------------------------------------------------------------
    def worker_of(self, reply_id: str) -> str:
        """Which worker generates this reply now."""
        found = until(lambda: self._worker_of(reply_id), "a worker has the lease")
        return str(found)

    def _worker_of(self, reply_id: str) -> str | None:
        rows = self.rows("SELECT owner FROM conversations_work WHERE id = %s AND owner <> ''", reply_id)
        pid = int(rows[0][0].split(":")[1]) if rows else None
        return next((name for name in WORKERS if self.processes[name].pid == pid), None)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to one process."""
        self.processes[name].send_signal(number)

    def replace(self, name: str) -> None:
        """Kill -9, and start again, as the supervisor of `make run` does."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()
        self.start(name)


def until(ask: Callable[[], Any], what: str, within: float = PATIENCE) -> Any:
    """What `ask` answers, as soon as that is true. Raises TimeoutError."""
    deadline = time.monotonic() + within
    while not (answer := ask()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"Waited {within:g} s in vain: {what}")
        time.sleep(0.05)
    return answer


@contextmanager
def running_stage(
    data_dir: Path, server: str = "daphne", environment: Mapping[str, str] | None = None
) -> Iterator[Stage]:
    """The whole platform under `data_dir`: both servers, web server, two workers, beat, and a simulator.

    `server` is the web server; `environment` is on top of the stage's own.
    """
    with running_simulator() as simulator:
        stage = Stage(data_dir, simulator, {**_environment(data_dir, simulator), **(environment or {})})
        stage.environment["PORT"] = str(stage.port)
        try:
            for name in ("valkey", "postgres"):
                stage.start_server(name)
            prepared = json.loads(_prepare(stage.environment))
            stage.keys, stage.platform_key = prepared["keys"], prepared["platform_key"]
            for name in (server, *WORKERS, "beat"):
                stage.start(name)
            until(stage.answers, "the web server answers", READY_WITHIN)
            yield stage
        finally:
            _end(stage)


def _environment(data_dir: Path, simulator: Simulator) -> dict[str, str]:
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "chatplatform.settings",
        "DATA_DIR": str(data_dir),
        "OPENAI_API_KEY": "simulated",
        "OPENAI_BASE_URL": simulator.openai_url,
        "LEASE_SECONDS": str(LEASE),
        "RECONCILE_EVERY": str(RECONCILE),
        "MAX_ATTEMPTS": "3",
        "DRAIN_SECONDS": "2",
        "LOG_LEVEL": "INFO",
        "LOG_FORMAT": "json",
    }


def _prepare(environment: Mapping[str, str]) -> bytes:
    return _run("chatplatform.testing.prepare", environment)


def _run(module: str, environment: Mapping[str, str]) -> bytes:
    return subprocess.run(
        [sys.executable, "-m", module],
        env=environment,
        cwd=settings.BASE_DIR,
        stdout=subprocess.PIPE,
        check=True,
    ).stdout


def _end(stage: Stage) -> None:
    for name, process in stage.processes.items():
        if name not in ("postgres", "valkey"):
            process.kill()
    for name in ("valkey", "postgres"):
        if name in stage.processes:
            stage.processes[name].send_signal(signal.SIGINT if name == "postgres" else signal.SIGTERM)
    psutil.wait_procs(
        [psutil.Process(p.pid) for p in stage.processes.values() if p.poll() is None], timeout=5
    )
    clear_sockets(stage.where)
