"""uvicorn, told what it has to know of this platform: `python -m chatplatform.uvicorn_server --host … --port …`.

It runs on uvloop and reads HTTP by httptools, as uvicorn does where they are installed. Beside the settings: SIGTERM
and SIGINT let everybody go first, and a client that does not read cannot keep its connection open by not reading.
Stock uvicorn serves the same application, but closes all sockets at once with 1012.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
from typing import Any

import uvicorn
from django.conf import settings
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from chatplatform import draining, heartbeats, startup

LARGEST_MESSAGE = 2**20  # bytes; as Daphne's


class Protocol(WebSocketsSansIOProtocol):
    async def send(self, message: Any) -> None:
        if message["type"] == "websocket.close":
            self.writable.set()  # the end does not wait for a client that does not read
            self.loop.call_later(heartbeats.CLOSED_WITHIN, self.transport.abort)
        await super().send(message)

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.transport.abort()  # whoever does not answer a ping will not read the rest either


class Server(uvicorn.Server):
    loop: asyncio.AbstractEventLoop | None = None

    def handle_exit(self, sig: int, frame: Any) -> None:
        if self.loop is None:  # it has not begun to serve
            self.should_exit = True
            return
        # Not kept in `_captured_signals`: they are raised again at the end, and the exit status would not be 0.
        self.loop.call_soon_threadsafe(draining.begin, settings.DRAIN_SECONDS, self._stop)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        await super().startup(sockets)
        for server in self.servers:
            for listener in server.sockets:
                heartbeats.give_up_on_the_dead(listener)

    def _stop(self) -> None:
        self.should_exit = True


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatplatform.settings")
    parser = argparse.ArgumentParser(prog="python -m chatplatform.uvicorn_server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    startup.check()
    config = uvicorn.Config(
        "chatplatform.asgi:application",
        host=options.host,
        port=options.port,
        ws=Protocol,
        ws_max_size=LARGEST_MESSAGE,
        ws_ping_interval=settings.PING_EVERY,
        ws_ping_timeout=settings.PING_EVERY * heartbeats.PONG_WITHIN,
        ws_per_message_deflate=False,  # it keeps buffers for each socket, and frames are short
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    Server(config).run()


if __name__ == "__main__":
    main()
