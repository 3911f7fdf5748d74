"""Daphne as it is run here, over each kind of socket that it can listen on."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
from pathlib import Path

from django.conf import settings

from chatplatform.testing.live import free_port
from chatplatform.testing.stage import until

SERVER = """
import sys
import django
django.setup()
from chatplatform.daphne_server import ConsiderateServer

async def greet(scope, receive, send):
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"Hello"})

ConsiderateServer(greet, endpoints=sys.argv[1:]).run()
"""


def answer(family: socket.AddressFamily, address: object) -> bytes:
    """What a server says there; nothing if there is none."""
    asking = http.client.HTTPConnection("localhost")
    asking.sock = socket.socket(family)
    with asking.sock as connection:
        connection.settimeout(5)
        if connection.connect_ex(address):  # type: ignore[arg-type]
            return b""
        asking.request("GET", "/")
        return asking.getresponse().read()


def test_it_answers_over_tcp_and_over_a_unix_socket(tmp_path: Path) -> None:
    port, path = free_port(), str(tmp_path / "web.sock")
    endpoints = f"unix:{path}", f"tcp:{port}:interface=127.0.0.1"
    with subprocess.Popen([sys.executable, "-c", SERVER, *endpoints], cwd=settings.BASE_DIR) as server:
        try:
            until(lambda: answer(socket.AF_INET, ("127.0.0.1", port)) == b"Hello", "it answers")
            assert answer(socket.AF_UNIX, path) == b"Hello"
        finally:
            server.kill()
