"""Calls the ASGI application in this process, as a server would: HTTP and WebSockets, at any host."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import orjson
from django.conf import settings

PATIENCE = 30.0  # s for one call
QUIET = 5.0  # s without a frame after which a socket has nothing more to say
TOKEN = "x" * 32


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `text` is all of it: headers, and body or frames."""

    status: int
    headers: dict[str, str]
    text: str


def headers_for(host: str, more: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """What a browser sends on a page of this host."""
    origin = f"{settings.PUBLIC_SCHEME}://{host}"
    all_of_them = {
        "host": host,
        "origin": origin,
        "referer": f"{origin}/",
        "x-forwarded-proto": settings.PUBLIC_SCHEME,
        "x-csrftoken": TOKEN,
        **{name.lower(): value for name, value in more.items()},
    }
    csrf = f"{settings.CSRF_COOKIE_NAME}={TOKEN}"
    all_of_them["cookie"] = "; ".join(filter(None, (csrf, all_of_them.get("cookie", ""))))
    return [(name.encode(), value.encode()) for name, value in all_of_them.items()]


class Caller:
    """See above."""

    def __init__(self, application: Any) -> None:
        self.application = application

    async def http(
        self,
        host: str,
        method: str,
        path: str,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Answer:
        """The whole answer, however long it takes to come."""
        as_json = path.startswith("/api/")
        sent = (
            b"" if body is None else orjson.dumps(body) if as_json else urlencode(body, doseq=True).encode()
        )
        kind = "application/json" if as_json else "application/x-www-form-urlencoded"
        scope = _scope("http", host, path, query, {"content-type": kind, **(headers or {})})
        scope["headers"].append((b"content-length", str(len(sent)).encode()))
        said: list[dict[str, Any]] = []
        over = asyncio.Event()
        messages = iter([{"type": "http.request", "body": sent, "more_body": False}])

        async def receive() -> dict[str, Any]:
            for message in messages:
                return message
            await over.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            said.append(message)

        async with asyncio.timeout(PATIENCE):
            await self.application({**scope, "method": method}, receive, send)
        over.set()
        return _answer(said)

    async def socket(
        self, host: str, path: str, headers: Mapping[str, str], frames: tuple[Any, ...] = (), query: str = ""
    ) -> Answer:
        """Open a WebSocket, send frames, and hear what it says until a reply's last event, or silence.

        The status is 101 if it was opened.
        """
        scope = {**_scope("websocket", host, path, query, headers), "subprotocols": []}
        scope["extensions"] = {"websocket.http.response": {}}
        to_it: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        from_it: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        to_it.put_nowait({"type": "websocket.connect"})
        running = asyncio.create_task(self.application(scope, to_it.get, from_it.put))
        said: list[dict[str, Any]] = []
        try:
            while not _is_over(said):
                said.append(await asyncio.wait_for(from_it.get(), QUIET))
                if said[-1]["type"] == "websocket.accept":
                    for frame in frames:
                        to_it.put_nowait({"type": "websocket.receive", "text": orjson.dumps(frame).decode()})
        except TimeoutError:
            pass
        to_it.put_nowait({"type": "websocket.disconnect", "code": 1000})
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(running, QUIET)
        opened = any(message["type"] == "websocket.accept" for message in said)
        refused = next((message["status"] for message in said if "status" in message), 403)
        return Answer(101 if opened else refused, {}, repr(said))


def _scope(kind: str, host: str, path: str, query: str, headers: Mapping[str, str]) -> dict[str, Any]:
    return {
        "type": kind, "asgi": {"version": "3.0"}, "http_version": "1.1", "path": path, "raw_path": path.encode(),
        "query_string": query.encode(), "root_path": "", "headers": headers_for(host, headers),
        "scheme": settings.PUBLIC_SCHEME, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip


def _answer(said: list[dict[str, Any]]) -> Answer:
    start = next(message for message in said if message["type"] == "http.response.start")
    headers = {name.decode("latin1").lower(): value.decode("latin1") for name, value in start["headers"]}
    body = b"".join(message.get("body", b"") for message in said).decode(errors="replace")
    return Answer(start["status"], headers, f"{headers}\n{body}")


def _is_over(said: list[dict[str, Any]]) -> bool:
    if not said:
        return False
    last = said[-1]
    text = str(last.get("text", ""))
    ended = any(f'"type":"{kind}"' in text for kind in ("completed", "failed", "cancelled", "error"))
    return ended or last["type"] in ("websocket.close", "websocket.http.response.body")
