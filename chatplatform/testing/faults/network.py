"""The network between the clients and the web server: a TCP proxy that can be told to misbehave."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

BLOCK = 65536


@dataclass(eq=False)
class Connection:
    """One client's connection, and ours to the web server for it."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    flowing: asyncio.Event = field(default_factory=asyncio.Event)
    pumps: list[asyncio.Task[None]] = field(default_factory=list)

    def abort(self) -> None:
        """Reset both sides."""
        self.flowing.set()
        for writer in (self.client, self.server):
            writer.transport.abort()

    def half_close(self, *, towards_client: bool) -> None:
        """End one direction; the other goes on."""
        self.pumps[int(towards_client)].cancel()
        with contextlib.suppress(OSError):
            (self.client if towards_client else self.server).write_eof()


class Network:
    """Passes bytes on, as long as it is not told otherwise."""

    def __init__(self, to_port: int, random: Random) -> None:
        self.port = 0
        self._to_port, self._random = to_port, random
        self._connections: set[Connection] = set()

    def cut(self, share: float) -> int:
        """Reset some connections. How many."""
        hit = self._some(share)
        for connection in hit:
            connection.abort()
        return len(hit)

    def half_close(self, share: float) -> int:
        """Close one direction of some connections. How many."""
        hit = self._some(share)
        for connection in hit:
            connection.half_close(towards_client=self._random.random() < 0.5)
        return len(hit)

    async def stall(self, share: float, seconds: float) -> int:
        """Pass nothing on for a while on some connections: what they carry is late, not lost. How many."""
        hit = self._some(share)
        for connection in hit:
            connection.flowing.clear()
        await asyncio.sleep(seconds)
        for connection in hit:
            connection.flowing.set()
        return len(hit)

    async def over(self) -> None:
        """Wait until no connection is left."""
        while pumps := [pump for connection in self._connections for pump in connection.pumps]:
            await asyncio.wait(pumps)
            await asyncio.sleep(0)

    def _some(self, share: float) -> list[Connection]:
        return [connection for connection in self._connections if self._random.random() < share]

    async def _pass(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            from_server, server = await asyncio.open_connection("127.0.0.1", self._to_port)
        except OSError:  # as from a load balancer whose only server is away
            client.transport.abort()
            return
        connection = Connection(client, server)
        connection.flowing.set()
        self._connections.add(connection)
        connection.pumps += [
            asyncio.create_task(_pump(reader, server, connection.flowing)),
            asyncio.create_task(_pump(from_server, client, connection.flowing)),
        ]
        await asyncio.wait(connection.pumps)
        self._connections.discard(connection)
        for writer in (client, server):
            writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flowing: asyncio.Event) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(BLOCK):
            await flowing.wait()
            writer.write(data)
            await writer.drain()
        writer.write_eof()


@asynccontextmanager
async def running_network(to_port: int, random: Random) -> AsyncIterator[Network]:
    """A network to a port of this machine, on a free port."""
    network = Network(to_port, random)
    server = await asyncio.start_server(network._pass, "127.0.0.1", 0)
    network.port = server.sockets[0].getsockname()[1]
    try:
        yield network
    finally:
        server.close()
        network.cut(1.0)
        await network.over()
