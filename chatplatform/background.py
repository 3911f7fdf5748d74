"""What runs beside the requests in each ASGI process, and what is waited for when it ends.

Daphne has no lifespan events, so the first request starts the tasks.
"""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import WeakKeyDictionary

from chatplatform import draining, garbage
from conversations import sockets
from conversations.services import connections
from conversations.streaming.hub import hub
from tenants import control
from tenants.services import api_key_uses

TASKS = control.listen, sockets.watch, connections.keep_known, api_key_uses.keep_noting


class Background:
    """ASGI middleware that keeps the process's own tasks running, and knows when nothing else does."""

    def __init__(self, application: Any) -> None:
        self.application = application
        self._tasks: WeakKeyDictionary[asyncio.AbstractEventLoop, list[asyncio.Task[None]]] = (
            WeakKeyDictionary()
        )
        self._running = 0
        draining.register(let_go=self._let_go, end=self._end, is_busy=lambda: self._running > 0)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        loop = asyncio.get_running_loop()
        if loop not in self._tasks:
            self._tasks[loop] = [loop.create_task(work()) for work in TASKS]
            garbage.collect_less()
        self._running += 1
        try:
            await self.application(scope, receive, send)
        finally:
            self._running -= 1

    def _let_go(self, within_ms: int) -> None:
        hub().let_go(within_ms + 1)

    def _end(self) -> None:
        hub().let_go(0)
        sockets.close_all()
