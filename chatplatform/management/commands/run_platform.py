"""`manage.py run_platform`: the whole platform in the foreground. What `make run` runs."""

from __future__ import annotations

import asyncio
import io
import json
import signal
import time
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from chatplatform.embedded.output import Output
from chatplatform.embedded.paths import locations
from chatplatform.embedded.servers import POSTGRES, VALKEY, Failed, clear_sockets, definitions, own
from chatplatform.embedded.supervisor import NotReady, Supervisor
from chatplatform.management import processes
from chatplatform.management.run_file import RunFile
from tenants import keyring

SERVERS_TIMEOUT = 60.0
READY_TIMEOUT = 90.0
STOP_ORDER = (("beat", "web"), ("worker",), (VALKEY,), (POSTGRES,))
# make passes a signal on that the terminal has delivered already: that is one wish, not two.
SAME_SIGNAL = 0.5


class Command(BaseCommand):
    help = "Run everything in the foreground: PostgreSQL, Valkey, web server, worker and beat."
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        if problem := processes.port_problem(settings.HOST, settings.PORT):
            raise CommandError(problem)
        where = locations(settings.DATA_DIR)
        try:
            lock = own(where, public_port=settings.PUBLIC_PORT)
            asyncio.run(serve())
            clear_sockets(where)
            lock.release()
        except (Failed, NotReady) as error:
            raise CommandError(str(error)) from error


async def serve() -> None:
    await Platform().run()


class Platform:
    """One run, from the first server's start to the last one's end."""

    def __init__(self) -> None:
        self.output = Output()
        self.supervisor = Supervisor(self.output)
        self.run_file = RunFile(settings.DATA_DIR)
        self._stop = asyncio.Event()
        self._asked_at = 0.0

    async def run(self) -> None:
        """Serve until a signal comes. Raises NotReady or Failed if something does not come up."""
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal)
        stopping = asyncio.create_task(self._stop.wait())
        starting = asyncio.create_task(self._start())
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                await stopping
        finally:
            starting.cancel()
            stopping.cancel()
            await self.supervisor.stop(*STOP_ORDER)
            self.output.say("stopped")

    def _on_signal(self) -> None:
        now = time.monotonic()
        if not self._stop.is_set():
            self._asked_at = now
            self._stop.set()
            self.output.say("stopping (again to hurry)")
        elif now - self._asked_at > SAME_SIGNAL:
            self.supervisor.hurry.set()

    async def _start(self) -> None:
        began = time.monotonic()
        first_time = not self.run_file.exists()
        if not first_time:
            # The schema is there already: these can load while PostgreSQL starts and migrations are checked.
            self._start_application()
        await self._start_servers()
        facts = await asyncio.to_thread(prepare_database)
        if first_time:
            self._start_application()
        await asyncio.gather(
            self._ready("web", processes.web_is_ready), self._ready("worker", processes.worker_is_ready)
        )
        self.supervisor.start(processes.beat())
        self.output.say(f"ready after {time.monotonic() - began:.1f} s; Ctrl-C stops everything")
        for key, value in self.run_file.update({**processes.urls(), **facts}).items():
            self.output.plain(f"{key}: {value}")

    async def _ready(self, name: str, is_ready: Callable[[], bool]) -> None:
        await self.supervisor.until(name, lambda: asyncio.to_thread(is_ready), READY_TIMEOUT)

    def _start_application(self) -> None:
        self.supervisor.start(processes.web())
        self.supervisor.start(processes.worker())

    async def _start_servers(self) -> None:
        wanted = {POSTGRES: settings.EMBEDDED_POSTGRES, VALKEY: settings.EMBEDDED_VALKEY}
        servers = definitions(locations(settings.DATA_DIR), [name for name, use in wanted.items() if use])
        await asyncio.gather(*(self.supervisor.start_server(server, SERVERS_TIMEOUT) for server in servers))


def prepare_database() -> dict[str, str]:
    """Migrate and make the demo tenant; its key and staff login, as far as they are new. Blocks."""
    try:
        call_command("migrate_tenants", stdout=io.StringIO())
        if missing := keyring.missing():
            raise NotReady(f"{missing} It is in MASTER_KEY, or in a file under DATA_DIR if nobody set it.")
        answer = io.StringIO()
        call_command("ensure_demo", "--json", stdout=answer)
        return {key: str(value) for key, value in json.loads(answer.getvalue()).items() if value}
    finally:
        for connection in connections.all(initialized_only=True):
            connection.close()
            if getattr(connection, "pool", None):
                connection.close_pool()  # type: ignore[attr-defined]
