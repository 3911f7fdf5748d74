"""Daphne, able to refuse a WebSocket with the status that the application chose.

`python -m chatplatform.daphne_server` takes Daphne's own arguments. Stock Daphne answers every refused handshake with
403; this adds ASGI's "WebSocket Denial Response" extension, which uvicorn has. Without it everything works, but a
client cannot tell "who are you" (401) from "no such conversation" (404).
"""

from __future__ import annotations

from typing import Any

from autobahn.websocket.types import ConnectionDeny
from daphne.cli import CommandLineInterface
from daphne.server import Server
from daphne.ws_protocol import WebSocketFactory, WebSocketProtocol

EXTENSION = "websocket.http.response"


class Protocol(WebSocketProtocol):  # type: ignore[misc]
    def handle_reply(self, message: dict[str, Any]) -> None:
        if message.get("type") == f"{EXTENSION}.start":
            self.denied_with = message["status"]
        elif message.get("type") == f"{EXTENSION}.body":
            self.handshake_deferred.errback(ConnectionDeny(code=self.denied_with, reason="Refused"))  # type: ignore[no-untyped-call]
            del self.handshake_deferred
            self.server.protocol_disconnected(self)
        else:
            super().handle_reply(message)


class DenyingServer(Server):  # type: ignore[misc]
    def create_application(self, protocol: Any, scope: dict[str, Any]) -> Any:
        if scope["type"] == "websocket":
            scope["extensions"] = {EXTENSION: {}}
        return super().create_application(protocol, scope)


class DenyingCommandLine(CommandLineInterface):  # type: ignore[misc]
    server_class = DenyingServer


WebSocketFactory.protocol = Protocol

if __name__ == "__main__":
    DenyingCommandLine.entrypoint()
