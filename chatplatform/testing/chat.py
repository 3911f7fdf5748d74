"""One conversation from a client's side, over real sockets: REST, SSE and WebSocket, and what each has seen."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import websockets
from websockets.asyncio.client import ClientConnection

LAST = ("completed", "failed", "cancelled")


@dataclass
class Seen:
    """The events of one reply that one reader got, in order."""

    events: list[dict[str, Any]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, event: dict[str, Any]) -> None:
        self.events.append({**event, "at": time.monotonic()})
        self.changed.set()

    @property
    def text(self) -> str:
        """All deltas after the last reset."""
        parts: list[str] = []
        for event in self.events:
            if event["type"] == "reset":
                parts.clear()
            elif event["type"] == "delta":
                parts.append(event["text"])
        return "".join(parts)

    @property
    def cursor(self) -> str:
        return str(self.events[-1]["cursor"])

    @property
    def resets(self) -> list[str]:
        return [event["reason"] for event in self.events if event["type"] == "reset"]

    @property
    def last(self) -> list[dict[str, Any]]:
        """The last events: there must be one."""
        return [event for event in self.events if event["type"] in LAST]

    async def until(self, ready: Any, within: float = 30.0) -> None:
        """Wait until `ready(self)` is true. Raises TimeoutError."""
        async with asyncio.timeout(within):
            while not ready(self):
                self.changed.clear()
                await self.changed.wait()

    async def words(self, count: int) -> None:
        """Wait for some text."""
        await self.until(lambda seen: len(seen.text.split()) >= count)

    async def end(self, within: float = 30.0) -> dict[str, Any]:
        """Wait for the last event; the reply in it."""
        await self.until(lambda seen: seen.last, within)
        return dict(self.last[0]["reply"])


class Chat:
    """A conversation of one tenant."""

    def __init__(
        self, session: aiohttp.ClientSession, api: str, ws: str, key: str, about: dict[str, Any]
    ) -> None:
        self.session, self.api, self.ws, self.about = session, api, ws, about
        self.headers = {"Authorization": f"Bearer {key}"}

    @property
    def url(self) -> str:
        return f"{self.api}/conversations/{self.about['id']}"

    @asynccontextmanager
    async def socket(self) -> AsyncIterator[ClientConnection]:
        """A WebSocket of this conversation."""
        uri = f"{self.ws}/{self.about['id']}"
        options: Any = {"additional_headers": self.headers, "max_size": None, "close_timeout": 1}
        async with websockets.connect(uri, **options) as socket:
            yield socket

    async def ask(self, socket: ClientConnection, content: str = "What now?") -> str:
        """Send a message over a socket; the id of its reply."""
        client_id = uuid.uuid4().hex
        frame = {"type": "message", "content": content, "client_id": client_id, "use_cache": False}
        await socket.send(json.dumps(frame))
        while True:
            answer = json.loads(await socket.recv())
            if answer.get("client_id") == client_id:
                assert answer["type"] == "accepted", answer
                return str(answer["reply_id"])

    async def post(self, content: str = "What now?", **more: Any) -> tuple[int, dict[str, Any]]:
        """Send a message over REST; status and body."""
        body = {"content": content, "use_cache": False, **more}
        async with self.session.post(f"{self.url}/messages", json=body, headers=self.headers) as answer:
            return answer.status, await answer.json(content_type=None)

    async def reply(self, reply_id: str) -> dict[str, Any]:
        """The reply as it is stored."""
        async with self.session.get(f"{self.url}/replies/{reply_id}", headers=self.headers) as answer:
            assert answer.status == 200, await answer.text()
            return dict(await answer.json())

    async def listen(self, socket: ClientConnection, reply_id: str, seen: Seen) -> None:
        """Collect a reply's events from a socket until it closes."""
        try:
            async for frame in socket:
                event = json.loads(frame)
                if event.get("reply_id") == reply_id:
                    seen.take(event)
        except websockets.ConnectionClosed:
            pass

    async def stream(self, reply_id: str, seen: Seen, after: str = "") -> None:
        """Collect a reply's events over SSE until the stream ends."""
        headers = {**self.headers, **({"Last-Event-ID": after} if after else {})}
        async with self.session.get(f"{self.url}/replies/{reply_id}/events", headers=headers) as answer:
            assert answer.status in (200, 204), await answer.text()
            event: dict[str, Any] = {}
            async for raw in answer.content:
                name, _, value = raw.decode().rstrip("\n").partition(": ")
                if name in ("id", "event"):
                    event["cursor" if name == "id" else "type"] = value
                elif name == "data":
                    seen.take({**event, **json.loads(value)})


@asynccontextmanager
async def chatting(
    platform: Any, tenant: str = "acme", *, model: str = "sim-tps=30,tokens=90"
) -> AsyncIterator[Chat]:
    """A new conversation with a model of the simulator's."""
    key = platform.keys[tenant]
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
    async with aiohttp.ClientSession(timeout=timeout, read_bufsize=2**20) as session:
        headers = {"Authorization": f"Bearer {key}"}
        async with session.post(
            f"{platform.api}/conversations", json={"model": model}, headers=headers
        ) as answer:
            about = await answer.json()
            assert answer.status == 201, about
        yield Chat(session, platform.api, platform.ws, key, about)
