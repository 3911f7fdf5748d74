"""The clients' own HTTP and WebSocket, against real servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import orjson
import pytest
from websockets.asyncio.server import ServerConnection, serve

from chatplatform.testing.simulator.runner import started
from chatplatform.testing.simulator.settings import Settings
from loadtests import wire

SIZES = (1, 125, 126, 4000, 65_535, 65_536, 200_000)


async def _serve(connection: ServerConnection) -> None:
    if (await connection.recv()) == "sizes":
        for size in SIZES:
            await connection.send("x" * size)
    await (await connection.ping())
    await connection.close(4001)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with serve(_serve, "127.0.0.1", 0, compression=None) as server:
        yield next(iter(server.sockets)).getsockname()[1]


async def test_it_reads_frames_of_every_size_answers_pings_and_notices_the_close(port: int) -> None:
    socket = await wire.connect("127.0.0.1", port, "/", {})
    seen: list[int] = []
    closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    socket.on_text = lambda at, payload: seen.append(len(payload))
    socket.on_closed = closed.set_result
    socket.send(b"sizes")
    assert await asyncio.wait_for(closed, 10) == "closed with 4001"
    assert (tuple(seen), socket.pings) == (SIZES, 1)


async def test_frames_may_be_cut_anywhere() -> None:
    frames = b"\x81\x03one" + b"\x81\x7e\x00\x80" + b"y" * 128 + b"\x81\x03two"
    for cut in range(1, len(frames)):
        seen: list[bytes] = []
        socket = wire.WebSocket(b"")
        socket.on_text = lambda at, payload, seen=seen: seen.append(payload)  # type: ignore[misc]
        socket._handshake(b"HTTP/1.1 101 Switching\r\n\r\n" + frames[:cut])
        socket.data_received(frames[cut:])
        assert seen == [b"one", b"y" * 128, b"two"]


async def test_a_refused_handshake_says_why() -> None:
    async with started() as simulator:
        with pytest.raises(wire.Refused, match="404"):
            await wire.connect("127.0.0.1", simulator.port, "/ws/none", {})


@pytest.mark.parametrize("stream", [False, True])
async def test_http_connections_are_kept_and_bodies_are_whole(stream: bool) -> None:
    async with started(Settings(tokens=60, tps=2000)) as simulator:
        connection = await wire.open_http("127.0.0.1", simulator.port)
        body = orjson.dumps({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "hi"}]})
        for _ in range(3):
            status, answer = await connection.ask(wire.post("here", "/v1/chat/completions", {}, body))
            assert status == 200
            text = wire.joined(answer)
            if stream:
                assert text.count(b"data: ") == 60 + 3 and text.endswith(b"data: [DONE]\n\n")
            else:
                assert orjson.loads(text)["usage"]["completion_tokens"] == 60
        assert simulator.port and (await _connections(connection)) == 1
        connection.close()


async def _connections(connection: wire.Http) -> int:
    _, body = await connection.ask(wire.head_of("GET", "/_stats", "here", {}))
    return int(orjson.loads(body)["connections"])
