"""Starting a simulator: on this event loop, in a thread of its own, or as a process."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from .server import build_app
from .settings import Settings

STOP_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class Simulator:
    """Where a simulator listens, and its control from synchronous code (each call is one HTTP request)."""

    host: str
    port: int

    @property
    def anthropic_url(self) -> str:
        """For ``ANTHROPIC_BASE_URL``; also the root of the control routes."""
        return f"http://{self.host}:{self.port}"

    @property
    def openai_url(self) -> str:
        """For ``OPENAI_BASE_URL``."""
        return f"{self.anthropic_url}/v1"

    def control(
        self, *, reset: bool = False, faults: list[Any] | None = None, **settings: Any
    ) -> dict[str, Any]:
        """``POST /_control``: change settings, queue faults, or start afresh."""
        body = {"reset": reset, "faults": faults or [], "settings": settings}
        answer: dict[str, Any] = self._call("/_control", json.dumps(body).encode())
        return answer

    def stats(self) -> dict[str, Any]:
        answer: dict[str, Any] = self._call("/_stats")
        return answer

    def requests(self) -> list[dict[str, Any]]:
        """The last requests, oldest first: ``{"path", "at", "number", "fault", "body"}``; ``at`` is on the monotonic
        clock, ``number`` counts from 1 as signed answers do. Those that are over have ``input_tokens`` and
        ``output_tokens``: what was read, and sent.
        """
        answer: list[dict[str, Any]] = self._call("/_requests")
        return answer

    def _call(self, path: str, body: bytes | None = None) -> Any:
        request = urllib.request.Request(self.anthropic_url + path, data=body)
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)


@asynccontextmanager
async def started(
    settings: Settings | None = None, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Simulator]:
    """A simulator on the running event loop. Raises ``OSError`` for a busy port."""
    runner = web.AppRunner(
        build_app(settings or Settings()), handler_cancellation=True, access_log=None, shutdown_timeout=0.2
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, backlog=4096)
        await site.start()
        yield Simulator(host, runner.addresses[0][1])
    finally:
        await runner.cleanup()


@contextmanager
def running_simulator(settings: Settings | None = None) -> Iterator[Simulator]:
    """A simulator on a free port, in a thread with its own event loop."""
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    found: list[Simulator] = []

    async def serve() -> None:
        try:
            async with started(settings) as simulator:
                found.append(simulator)
                ready.set()
                await stop.wait()
        finally:
            ready.set()

    def main() -> None:
        loop.run_until_complete(serve())
        loop.close()

    thread = threading.Thread(target=main, name="provider-simulator", daemon=True)
    thread.start()
    ready.wait(STOP_TIMEOUT)
    if not found:
        raise RuntimeError("the simulator did not start")
    try:
        yield found[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(STOP_TIMEOUT)


@contextmanager
def simulator_process(*options: str) -> Iterator[Simulator]:
    """A simulator as a process of its own, on a free port; ``options`` as on the command line."""
    command = [sys.executable, "-m", "chatplatform.testing.simulator", "--port", "0", "--json", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the simulator did not start: exit code {process.wait(STOP_TIMEOUT)}")
        yield Simulator("127.0.0.1", json.loads(line)["port"])
    finally:
        process.terminate()
        process.wait(STOP_TIMEOUT)
