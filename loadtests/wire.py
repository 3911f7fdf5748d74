"""The client's side of HTTP and WebSocket, as little as it takes: what a client costs, the platform cannot use.

Only what the bench's own servers send: no compression, no fragments, no redirects.
"""

from __future__ import annotations

import asyncio
import base64
import os
import time
from collections.abc import Callable, Mapping

ADDRESSES_EVERY = 20_000  # connections from one source address: a machine has about 28,000 ports for each
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
OnText = Callable[[float, bytes], None]  # seconds on the monotonic clock, one text frame


class Refused(Exception):
    """The other side answered something else. The message is its first line."""


class WebSocket(asyncio.Protocol):
    """One socket. Every text frame goes to `on_text`, with the time at which its last byte was here."""

    def __init__(self, request: bytes) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.on_text: OnText = lambda at, payload: None
        self.on_closed: Callable[[str], None] = lambda why: None
        self.pings = 0
        self.closed = ""
        self._request, self._rest = request, b""
        self._data_received = self._handshake
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._data_received(data)

    def _handshake(self, data: bytes) -> None:
        head, end, rest = (self._rest + data).partition(b"\r\n\r\n")
        if not end:
            self._rest = head
            return
        line = head.split(b"\r\n", 1)[0].decode()
        if " 101 " not in line:
            self.closed = line
            self._transport.abort()
            return
        self._rest, self._data_received = b"", self._frames
        if not self.opened.done():  # nobody waits any more
            self.opened.set_result(None)
        if rest:
            self._frames(rest)

    def _frames(self, data: bytes) -> None:
        at = time.monotonic()
        if self._rest:
            data = self._rest + data
        begin, end = 0, len(data)
        while end - begin >= 2:
            length, body = data[begin + 1] & 127, begin + 2
            if length > 125:
                size = 2 if length == 126 else 8
                length, body = int.from_bytes(data[body : body + size]), body + size
            stop = body + length
            if body > end or stop > end:
                break
            self._frame(data[begin], data[body:stop], at)
            begin = stop
        self._rest = data[begin:]

    def _frame(self, head: int, payload: bytes, at: float) -> None:
        kind = head & 15
        if head == 0x80 | TEXT:
            self.on_text(at, payload)
        elif kind == PING:
            self.pings += 1
            self._write(PONG, payload)
        elif kind == CLOSE:
            self.closed = f"closed with {int.from_bytes(payload[:2])}"
            self._transport.close()
        else:
            self.closed = f"an unexpected frame, {head:#x}"
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = self.closed or "connection lost"
        if not self.opened.done():
            self.opened.set_exception(Refused(self.closed))
        self.on_closed(self.closed)

    def send(self, text: bytes) -> None:
        self._write(TEXT, text)

    def _write(self, kind: int, payload: bytes) -> None:
        # Clients have to mask; a mask of zeros is one, and costs nothing.
        size = len(payload)
        if size > 65_535:
            raise ValueError("Frames of the bench are small.")
        length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2)
        self._transport.write(bytes([0x80 | kind]) + length + b"\0\0\0\0" + payload)

    def close(self) -> None:
        self.on_closed = lambda why: None
        self._transport.abort()


async def connect(host: str, port: int, path: str, headers: Mapping[str, str], number: int = 0) -> WebSocket:
    """An open socket. `number` counts the connections, to spread many over source addresses. Raises Refused."""
    key = base64.b64encode(os.urandom(16)).decode()
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    request = head_of("GET", path, f"{host}:{port}", {**upgrade, "Sec-WebSocket-Key": key, **headers})
    local = (f"127.0.0.{1 + number // ADDRESSES_EVERY}", 0) if number >= ADDRESSES_EVERY else None
    loop = asyncio.get_running_loop()
    _, protocol = await loop.create_connection(lambda: WebSocket(request), host, port, local_addr=local)
    await protocol.opened
    return protocol


class Http(asyncio.Protocol):
    """One connection that is kept alive; one request at a time. Body chunks go to `on_data` as they come."""

    def __init__(self) -> None:
        self.on_data: Callable[[float, bytes], None] = lambda at, data: None
        self._answer: asyncio.Future[tuple[int, bytes]]
        self._transport: asyncio.Transport
        self._peer: tuple[str, int]
        self._received = bytearray()
        # Status, where the body begins, where it ends (-1: chunked).
        self._head: tuple[int, int, int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._peer = transport, transport.get_extra_info("peername")[:2]

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body (of one in chunks: with the chunks' sizes, see `joined`). Raises Refused."""
        loop = asyncio.get_running_loop()
        if self._transport.is_closing():  # a server need not keep it for longer than it likes
            await loop.create_connection(lambda: self, *self._peer)
        self._received, self._head = bytearray(), None
        self._answer = loop.create_future()
        self._transport.write(request)
        return await self._answer

    def data_received(self, data: bytes) -> None:
        self.on_data(time.monotonic(), data)
        self._received += data
        if self._head is None:
            self._head = self._parsed_head()
        if self._head is None or self._answer.done():
            return
        status, begin, end = self._head
        whole = self._received.endswith(b"\r\n0\r\n\r\n") if end < 0 else len(self._received) >= end
        if whole:
            self._answer.set_result((status, bytes(self._received[begin:])))

    def _parsed_head(self) -> tuple[int, int, int] | None:
        head, end, _ = self._received.partition(b"\r\n\r\n")
        if not end:
            return None
        begin, lower = len(head) + 4, head.lower()
        status = int(head[9:12])
        if b"transfer-encoding: chunked" in lower:
            return status, begin, -1
        _, found, length = lower.partition(b"content-length: ")
        return status, begin, begin + int(length.split(b"\r\n", 1)[0]) if found else begin

    def connection_lost(self, error: Exception | None) -> None:
        if hasattr(self, "_answer") and not self._answer.done():
            self._answer.set_exception(Refused("connection lost"))

    def close(self) -> None:
        self._transport.abort()


async def open_http(host: str, port: int) -> Http:
    """A connection to this address."""
    return (await asyncio.get_running_loop().create_connection(Http, host, port))[1]


def head_of(method: str, path: str, host: str, headers: Mapping[str, str]) -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: {host}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def post(host: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """A POST of JSON, ready to be sent."""
    about = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    return head_of("POST", path, host, {**about, **headers}) + body


def joined(body: bytes) -> bytes:
    """A body that came in chunks, without their sizes; any other as it is."""
    if not body.endswith(b"\r\n0\r\n\r\n"):
        return body
    parts, begin = [], 0
    while (line := body.index(b"\r\n", begin)) and (size := int(body[begin:line], 16)):
        parts.append(body[line + 2 : line + 2 + size])
        begin = line + 2 + size + 2
    return b"".join(parts)
