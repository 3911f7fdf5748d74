"""What runs beside the requests in each ASGI process: the control bus, and the watch over open sockets.

Daphne has no lifespan events, so the first request starts it.
"""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import WeakKeyDictionary

from conversations import sockets
from tenants import control


class Background:
    """ASGI middleware that keeps the process's own tasks running."""

    def __init__(self, application: Any) -> None:
        self.application = application
        self._tasks: WeakKeyDictionary[asyncio.AbstractEventLoop, list[asyncio.Task[None]]] = (
            WeakKeyDictionary()
        )

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        loop = asyncio.get_running_loop()
        if loop not in self._tasks:
            self._tasks[loop] = [loop.create_task(work()) for work in (control.listen, sockets.watch)]
        await self.application(scope, receive, send)
