"""Commands over one connection of an event loop, to a real Valkey and to servers that misbehave."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import ConnectionPool
from redis.exceptions import ConnectionError, NoScriptError, ResponseError, TimeoutError

from chatplatform.embedded import Servers
from chatplatform.valkey import Wire, packed

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def wire_to(url: str, within: float = 2.0) -> AsyncIterator[Wire]:
    pool = ConnectionPool.from_url(url, protocol=2)
    wire = Wire(pool, within)
    yield wire
    if wire._end:
        wire._end.hang_up()
        await asyncio.sleep(0)


@asynccontextmanager
async def server_that(serve: Serve) -> AsyncIterator[str]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer what redis-py says first (its name, its version) until PING comes."""
    while not (said := await reader.read(1000)).endswith(b"PING\r\n"):
        if not said:
            return
        writer.write(b"+OK\r\n" * said.count(b"*"))


async def test_the_answers_come_in_the_order_of_the_commands(servers: Servers) -> None:
    key = f"test:{secrets.token_hex(4)}"
    async with wire_to(servers.where.redis_url) as wire:
        assert await wire.answers(packed("SET", key, "1", "EX", 60), packed("GET", key)) == [b"OK", b"1"]


async def test_all_tasks_share_one_connection_and_each_has_its_own_answers(servers: Servers) -> None:
    async with wire_to(servers.where.redis_url) as wire:
        who = packed("CLIENT", "ID")
        asked = [wire.answers(packed("ECHO", str(number)), who) for number in range(50)]
        heard = await asyncio.gather(*asked)
    assert [said for said, _ in heard] == [str(number).encode() for number in range(50)]
    assert len({number for _, number in heard}) == 1


async def test_errors_are_answers(servers: Servers) -> None:
    async with wire_to(servers.where.redis_url) as wire:
        wrong, unknown, fine = await wire.answers(
            packed("NOT-A-COMMAND"), packed("EVALSHA", "0" * 40, 0), packed("ECHO", "fine")
        )
    assert (type(wrong), type(unknown), fine) == (ResponseError, NoScriptError, b"fine")


async def test_who_does_not_wait_any_longer_takes_nobodys_answer(servers: Servers) -> None:
    async with wire_to(servers.where.redis_url) as wire:
        await wire.answers(packed("PING"))
        impatient = asyncio.create_task(wire.answers(packed("ECHO", "first")))
        await asyncio.sleep(0)
        impatient.cancel()
        assert await wire.answers(packed("ECHO", "second")) == [b"second"]


async def test_a_connection_that_breaks_tells_all_and_the_next_one_is_new(servers: Servers) -> None:
    async with wire_to(servers.where.redis_url) as wire, wire_to(servers.where.redis_url) as other:
        [number] = await wire.answers(packed("CLIENT", "ID"))
        waits = [asyncio.create_task(wire.answers(packed("BLPOP", "test:nothing", 5))) for _ in range(2)]
        await asyncio.sleep(0.05)
        await other.answers(packed("CLIENT", "KILL", "ID", number))
        for wait in waits:
            with pytest.raises(ConnectionError):
                await wait
        [again] = await wire.answers(packed("CLIENT", "ID"))
        assert again != number


async def test_a_server_that_is_silent_is_given_up_and_asked_anew() -> None:
    met: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.append(writer)
        await greet(reader, writer)
        if len(met) > 1:
            writer.write(b"+PONG\r\n")
        await reader.read()
        writer.close()

    async with server_that(serve) as url, wire_to(url, within=0.1) as wire:
        with pytest.raises(TimeoutError):
            await wire.answers(packed("PING"))
        assert await wire.answers(packed("PING")) == [b"PONG"]
        assert len(met) == 2


async def test_an_answer_may_come_in_pieces() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        for piece in (b"$5\r", b"\nhel", b"lo\r\n+O", b"K\r\n"):
            writer.write(piece)
            await asyncio.sleep(0.005)
        await reader.read()
        writer.close()

    async with server_that(serve) as url, wire_to(url) as wire:
        assert await wire.answers(packed("GET", "x"), packed("PING")) == [b"hello", b"OK"]


async def test_what_is_no_answer_breaks_the_connection() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    async with server_that(serve) as url, wire_to(url) as wire:
        with pytest.raises(ConnectionError):
            await wire.answers(packed("PING"))


async def test_where_nobody_listens_all_are_told() -> None:
    async with wire_to("unix:///nowhere/valkey.sock") as wire:
        asked = [wire.answers(packed("PING")) for _ in range(3)]
        for answer in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(answer, ConnectionError)
