"""Daphne, with what it lacks beside uvicorn: `python -m chatplatform.daphne_server` takes Daphne's own arguments.

- A WebSocket can be refused with the status that the application chose (ASGI's "WebSocket Denial Response");
  stock Daphne answers every refused handshake with 403.
- `send` waits while a client does not read, and no more is read from a client than the application takes; stock
  Daphne keeps everything in memory.
- SIGTERM and SIGINT let everybody go first; stock Daphne cuts them off.
- It runs on uvloop, writes text frames itself, and writes without asking first whether the socket takes it.
"""

from __future__ import annotations

import asyncio
import signal
from functools import lru_cache
from typing import Any

import uvloop

# Before Daphne and Twisted are loaded: they make their event loop as they are.
asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())

from autobahn.websocket.types import ConnectionDeny
from daphne import http_protocol, server
from daphne.cli import CommandLineInterface
from daphne.http_protocol import HTTPFactory, WebRequest
from daphne.server import Server, twisted_loop
from daphne.ws_protocol import WebSocketFactory, WebSocketProtocol
from django.conf import settings
from twisted.internet import tcp
from twisted.internet.interfaces import IPushProducer
from twisted.web import http
from zope.interface import implementer  # type: ignore[import-untyped]

from chatplatform import draining, heartbeats, startup

DENIAL = "websocket.http.response"
MOST_WAITING, LOOK_AGAIN = 8, 0.05  # frames of one socket that wait for the application; s


@implementer(IPushProducer)
class Flow:
    """What Twisted tells of a connection's buffer: over 64 kB, pause; empty again, go on."""

    __slots__ = ("_full",)

    def __init__(self) -> None:
        self._full: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        """Wait until the client has taken what was sent so far."""
        while self._full is not None:
            await asyncio.shield(self._full)

    def pauseProducing(self) -> None:
        self._full = self._full or twisted_loop.create_future()

    def resumeProducing(self) -> None:
        if self._full is not None:
            self._full.set_result(None)
            self._full = None

    stopProducing = resumeProducing  # the connection is gone: whoever waits finds out by sending


def frame(payload: bytes) -> bytes:
    """A whole text message as one frame, from a server (RFC 6455, 5.2). Autobahn's way to it is much longer."""
    length = len(payload)
    if length < 126:
        return b"\x81%c%b" % (length, payload)
    if length < 65_536:
        return b"\x81\x7e%b%b" % (length.to_bytes(2, "big"), payload)
    return b"\x81\x7f%b%b" % (length.to_bytes(8, "big"), payload)


class Transport(tcp.Server):
    """Writes in the event loop's next round; stock Twisted has it tell when the socket can be written to, which it
    nearly always can, and then not to tell that any more.
    """

    _is_to_write = False

    def startWriting(self) -> None:
        if not self._is_to_write:
            self._is_to_write = True
            twisted_loop.call_soon(self._try_to_write)

    def stopWriting(self) -> None:
        self._is_to_write = False
        super().stopWriting()  # type: ignore[no-untyped-call]

    def _try_to_write(self) -> None:
        """What is left over, closing the connection and finding it broken is left to Twisted."""
        if self.connected and (self.disconnecting or self.doWrite() or self._is_to_write):  # type: ignore[no-untyped-call]
            super().startWriting()  # type: ignore[no-untyped-call]


class Factory(HTTPFactory):  # type: ignore[misc]
    def log(self, request: Any) -> None:
        """Nothing: there is no access log, and Twisted would make up a line for each request all the same."""


class Request(WebRequest):  # type: ignore[misc]
    flow = Flow()  # of one whose client has left before its answer began; never full

    def handle_reply(self, message: dict[str, Any]) -> None:
        if message.get("type") == "http.response.start" and not self.finished and self.channel is not None:
            self.flow = Flow()
            self.registerProducer(self.flow, True)
        super().handle_reply(message)

    def finish(self) -> None:
        if self.producer:
            self.unregisterProducer()
        super().finish()


class Protocol(WebSocketProtocol):  # type: ignore[misc]
    def onConnect(self, request: Any) -> Any:
        self.flow = Flow()
        self.closeHandshakeTimeout = heartbeats.CLOSED_WITHIN
        return super().onConnect(request)

    def onOpen(self) -> None:
        self.transport.unregisterProducer()  # of the HTTP request that this was before
        self.transport.registerProducer(self.flow, True)
        super().onOpen()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Nothing more is read from a client who sends faster than the application takes."""
        super().onMessage(payload, isBinary)
        if self.application_queue.qsize() >= MOST_WAITING:
            self.transport.pauseProducing()
            twisted_loop.call_later(LOOK_AGAIN, self._read_on)

    def _read_on(self) -> None:
        if self.application_queue.qsize() >= MOST_WAITING:
            twisted_loop.call_later(LOOK_AGAIN, self._read_on)
        else:
            self.transport.resumeProducing()

    def _closeConnection(self, abort: bool = False) -> None:
        self.transport.unregisterProducer()  # or the transport would ask it for more instead of closing
        self.flow.stopProducing()
        super()._closeConnection(abort)

    def handle_reply(self, message: dict[str, Any]) -> None:
        if message.get("text") and self.state == self.STATE_OPEN:
            self.transport.write(frame(message["text"].encode()))
        elif message.get("type") == f"{DENIAL}.start":
            self.denied_with = message["status"]
        elif message.get("type") == f"{DENIAL}.body":
            self.handshake_deferred.errback(ConnectionDeny(code=self.denied_with, reason="Refused"))  # type: ignore[no-untyped-call]
            del self.handshake_deferred
            self.server.protocol_disconnected(self)
        else:
            super().handle_reply(message)


class ConsiderateServer(Server):  # type: ignore[misc]
    def __init__(self, *arguments: Any, **options: Any) -> None:
        pings = {
            "ping_interval": settings.PING_EVERY,
            "ping_timeout": settings.PING_EVERY * heartbeats.PONG_WITHIN,
        }
        super().__init__(*arguments, **{**options, **pings})
        self.signal_handlers = False  # Twisted's own would stop at once

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            twisted_loop.add_signal_handler(number, draining.begin, settings.DRAIN_SECONDS, self.stop)
        super().run()

    def listen_success(self, port: Any) -> None:
        heartbeats.give_up_on_the_dead(port.socket)
        if port.transport is tcp.Server:  # over a Unix socket Twisted has one of another make
            port.transport = Transport
        super().listen_success(port)

    def create_application(self, protocol: Any, scope: dict[str, Any]) -> Any:
        if scope["type"] == "websocket":
            scope["extensions"] = {DENIAL: {}}
        return super().create_application(protocol, scope)

    async def handle_reply(self, protocol: Any, message: dict[str, Any]) -> None:
        if message["type"] == "websocket.send" or message.get("more_body"):
            await protocol.flow.wait()
        await super().handle_reply(protocol, message)


class CommandLine(CommandLineInterface):  # type: ignore[misc]
    server_class = ConsiderateServer


WebSocketFactory.protocol = Protocol
server.HTTPFactory = Factory
http_protocol.WebRequest = Request
# Twisted has the email package take the same few headers to pieces at each POST.
http._parseContentType = lru_cache(maxsize=64)(http._parseContentType)

if __name__ == "__main__":
    startup.check()
    CommandLine.entrypoint()
