"""The load: the same streams, straight from the simulator or through the platform."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import aiohttp
import orjson

from chatplatform.testing.live import Live
from loadtests.figures import Stream

RAMP = 1.0  # s over which the streams begin
PATIENCE = 120.0
LAST = ("completed", "failed", "cancelled")
Reader = Callable[[Stream, asyncio.Event], Awaitable[None]]


def session() -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=0)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None))


async def at_once(count: int, read: Reader) -> list[Stream]:
    """Run `count` streams side by side. Each sets up first; then they begin, spread over the ramp."""
    streams = [Stream(uuid.uuid4().hex[-8:]) for _ in range(count)]
    starts = [asyncio.Event() for _ in streams]
    readers = [
        asyncio.create_task(_guarded(read, stream, start))
        for stream, start in zip(streams, starts, strict=True)
    ]
    await asyncio.sleep(0.5 + count / 100)  # the handshakes
    for start in starts:
        start.set()
        await asyncio.sleep(RAMP / count if count > 1 else 0)
    await asyncio.gather(*readers)
    return streams


async def _guarded(read: Reader, stream: Stream, start: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            await read(stream, start)
    except Exception as error:
        stream.problem = f"{type(error).__name__}: {error}"[:200]


class Direct:
    """Straight to the simulator, as a program that calls the provider itself."""

    def __init__(self, http: aiohttp.ClientSession, url: str, model: str) -> None:
        self.http, self.url, self.model = http, f"{url}/chat/completions", model

    async def __call__(self, stream: Stream, start: asyncio.Event) -> None:
        await start.wait()
        stream.asked_at = time.monotonic()
        said = [{"role": "user", "content": stream.name}]
        body = {"model": self.model, "stream": True, "messages": said}
        async with self.http.post(self.url, json=body) as answer:
            answer.raise_for_status()
            async for line in answer.content:
                if line.startswith(b"data: {"):
                    at = time.monotonic()
                    choices = orjson.loads(line[6:])["choices"]
                    if choices and (text := choices[0]["delta"].get("content")):
                        stream.take(text, at)
        stream.ends, stream.stored = 1, stream.text


class OverWebSocket:
    """Through the platform: one conversation and one socket a stream."""

    def __init__(self, http: aiohttp.ClientSession, live: Live, model: str) -> None:
        self.http, self.live, self.model = http, live, model
        self.headers = {"Authorization": f"Bearer {live.keys['acme']}"}
        self.room = asyncio.Semaphore(16)  # for the preparations

    async def __call__(self, stream: Stream, start: asyncio.Event) -> None:
        async with AsyncExitStack() as stack:
            async with self.room:
                url = f"{self.live.ws}/{await self.begin()}"
                socket = await stack.enter_async_context(self.http.ws_connect(url, headers=self.headers))
            await start.wait()
            stream.asked_at = time.monotonic()
            frame = {"type": "message", "content": stream.name, "client_id": stream.name, "use_cache": False}
            await socket.send_str(orjson.dumps(frame).decode())
            async for message in socket:
                if self.take(stream, orjson.loads(message.data), time.monotonic()):
                    break

    async def begin(self) -> str:
        """A new conversation's id."""
        url = f"{self.live.api}/conversations"
        async with self.http.post(url, json={"model": self.model}, headers=self.headers) as answer:
            answer.raise_for_status()
            return str((await answer.json())["id"])

    @staticmethod
    def take(stream: Stream, event: dict, at: float) -> bool:
        """Note one event; whether it was the last."""
        kind = event["type"]
        if kind == "delta":
            stream.take(event["text"], at)
        elif kind == "reset":
            stream.resets += 1
            stream.text, stream.arrivals = "", []
        elif kind == "error":
            stream.problem = str(event["error"]["code"])
        elif kind in LAST:
            stream.ends += 1
            stream.stored = event["reply"]["content"]
            if kind != "completed":
                stream.problem = f"{kind}: {event['reply']['error']}"
        return kind in LAST or kind == "error"


class OverSse(OverWebSocket):
    """The same over an event stream."""

    async def __call__(self, stream: Stream, start: asyncio.Event) -> None:
        async with self.room:
            url = f"{self.live.api}/conversations/{await self.begin()}/messages"
        await start.wait()
        stream.asked_at = time.monotonic()
        body = {"content": stream.name, "stream": True, "use_cache": False}
        async with self.http.post(url, json=body, headers=self.headers) as answer:
            answer.raise_for_status()
            kind = b""
            async for line in answer.content:
                if line.startswith(b"event: "):
                    kind = line[7:-1]
                elif line.startswith(b"data: "):
                    self.take(stream, {"type": kind.decode(), **orjson.loads(line[6:])}, time.monotonic())


async def turns(http: aiohttp.ClientSession, live: Live, model: str, clients: int, seconds: float) -> dict:
    """Whole turns, one after the other, by so many clients at once over REST without streaming."""
    over = OverWebSocket(http, live, model)
    took: list[float] = []
    failed: list[str] = []
    conversations = [await over.begin() for _ in range(clients)]
    until = time.monotonic() + seconds

    async def chat(conversation: str) -> None:
        url = f"{live.api}/conversations/{conversation}/messages"
        while (began := time.monotonic()) < until:
            body = {"content": "Again?", "use_cache": False}
            async with http.post(url, json=body, headers=over.headers) as answer:
                if answer.status == 200 and (await answer.json())["reply"]["status"] == "completed":
                    took.append(1000 * (time.monotonic() - began))
                else:
                    failed.append(f"{answer.status}")

    began = time.monotonic()
    await asyncio.gather(*map(chat, conversations))
    return {"took": took, "failed": failed, "seconds": time.monotonic() - began}
