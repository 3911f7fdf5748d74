"""Callers of a running platform, as tests use them: REST, event streams and WebSockets of one credential."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx2
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from chatplatform.testing.live import Live

FAST = "sim-fast"  # answers at once
SLOW = "sim-tokens=400,tps=20"  # goes on for 20 s, so that something can be done in the meantime
SILENT = "sim-ttft=25"  # a reply that stays without text for long
PATIENCE = 20.0
LAST = {"completed", "failed", "cancelled"}


class Event(NamedTuple):
    """One event of a reply, over SSE or WebSocket; `id` is its cursor."""

    id: str
    kind: str
    data: dict[str, Any]


class Caller:
    """One credential at the REST API."""

    def __init__(self, live: Live, key: str | None, **headers: str) -> None:
        self.live, self.key = live, key
        if key:
            headers["Authorization"] = f"Bearer {key}"
        self.headers = headers
        self.http = httpx2.Client(base_url=live.api, headers=headers, timeout=60)

    def get(self, path: str, **more: Any) -> httpx2.Response:
        return self.http.get(path, **more)

    def post(self, path: str, body: Any = None, **more: Any) -> httpx2.Response:
        return self.http.post(path, json={} if body is None else body, **more)

    def patch(self, path: str, body: Any) -> httpx2.Response:
        return self.http.patch(path, json=body)

    def begin(self, model: str | None = FAST, **body: Any) -> str:
        """The id of a new conversation."""
        answer = self.post("/conversations", {"model": model, **body})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def ask(self, conversation: str, content: str = "Hello", **body: Any) -> dict[str, Any]:
        """A whole turn: `{user_message, reply}`."""
        answer = self.say(conversation, content, **body)
        assert answer.status_code == 200, answer.text
        turn: dict[str, Any] = answer.json()
        return turn

    def say(
        self, conversation: str, content: Any = "Hello", headers: Mapping[str, str] | None = None, **body: Any
    ) -> httpx2.Response:
        """Whatever is answered to a message."""
        path = f"/conversations/{conversation}/messages"
        return self.post(path, {"content": content, **body}, headers=headers)

    @contextmanager
    def streaming(
        self, conversation: str, content: str = "Hello", **headers: str
    ) -> Iterator[Iterator[Event]]:
        """The events of a new reply, while they come."""
        path, body = f"/conversations/{conversation}/messages", {"content": content, "stream": True}
        with self.http.stream("POST", path, json=body, headers=headers) as answer:
            assert answer.status_code == 200, answer.read()
            yield events_of(answer.iter_lines())

    def stream(self, conversation: str, content: str = "Hello", **headers: str) -> list[Event]:
        """All events of a new reply."""
        with self.streaming(conversation, content, **headers) as found:
            return list(found)

    def start(self, conversation: str, content: str = "Hello") -> str:
        """The id of a reply that goes on by itself."""
        with self.streaming(conversation, content) as found:
            return str(next(found).data["reply_id"])

    def reply(self, conversation: str, reply: str) -> dict[str, Any]:
        """A stored reply."""
        answer: dict[str, Any] = self.get(f"/conversations/{conversation}/replies/{reply}").json()
        return answer

    @contextmanager
    def reading(self, conversation: str, reply: str, after: str | None = None) -> Iterator[Iterator[Event]]:
        """The events of a reply, while they come."""
        path = f"/conversations/{conversation}/replies/{reply}/events"
        with self.http.stream("GET", path, headers={"Last-Event-ID": after} if after else {}) as answer:
            assert answer.status_code == 200, answer.read()
            yield events_of(answer.iter_lines())

    def events(self, conversation: str, reply: str, after: str | None = None) -> list[Event]:
        """The events of a reply, to its end."""
        with self.reading(conversation, reply, after) as found:
            return list(found)

    def cancel(self, conversation: str, reply: str) -> httpx2.Response:
        return self.post(f"/conversations/{conversation}/replies/{reply}/cancel")

    def stop(self, conversation: str, reply: str) -> dict[str, Any]:
        """Cancel a reply, and the reply once it has ended."""
        assert self.cancel(conversation, reply).status_code == 202
        return dict(self.events(conversation, reply)[-1].data["reply"])

    @contextmanager
    def socket(self, conversation: str, query: str = "", **headers: str) -> Iterator[Socket]:
        """A WebSocket of this credential in a conversation."""
        with opened(self.live, conversation, query, {**self.headers, **headers}) as socket:
            yield socket


@contextmanager
def opened(
    live: Live, conversation: str, query: str = "", headers: Mapping[str, str] | None = None
) -> Iterator[Socket]:
    """A WebSocket with just these headers; `Host` may be among them."""
    given = dict(headers or {})
    host = given.pop("Host", f"127.0.0.1:{live.port}")
    uri = f"ws://{host.partition(':')[0]}:{live.port}/ws/{conversation}{query}"
    # A host name goes into the request's Host; the connection is to this machine in any case.
    address = ("127.0.0.1", live.port)
    with connect(uri, address=address, additional_headers=given, max_size=None, proxy=None) as connection:
        yield Socket(connection)


class Socket:
    """A WebSocket that takes and gives frames as dictionaries."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    def send(self, **frame: Any) -> None:
        self.connection.send(json.dumps(frame))

    def raw(self, text: str | bytes) -> None:
        self.connection.send(text)

    def say(self, content: Any = "Hello", client_id: str = "c1", **more: Any) -> None:
        self.send(type="message", content=content, client_id=client_id, **more)

    def receive(self) -> dict[str, Any]:
        frame: dict[str, Any] = json.loads(self.connection.recv(timeout=PATIENCE))
        return frame

    def until(self, *kinds: str, where: Callable[[dict[str, Any]], bool] = bool) -> list[dict[str, Any]]:
        """The frames up to and with the first of one of these kinds that is meant."""
        frames = [self.receive()]
        while frames[-1]["type"] not in kinds or not where(frames[-1]):
            frames.append(self.receive())
        return frames

    def reply(self) -> list[Event]:
        """The events of a reply, to its last."""
        return [as_event(frame) for frame in self.until(*LAST) if "cursor" in frame]

    def echo(self) -> dict[str, Any]:
        """The answer to a frame that is refused: what has been answered by now came before it."""
        self.send(type="ping")
        return self.until("error")[-1]

    def close_code(self) -> int | None:
        """Read on until the server closes; its close code."""
        try:
            while True:
                self.receive()
        except ConnectionClosed:
            return self.connection.close_code


def as_event(frame: dict[str, Any]) -> Event:
    """A frame as the same event over SSE."""
    data = {name: value for name, value in frame.items() if name not in ("type", "cursor")}
    return Event(frame["cursor"], frame["type"], data)


def events_of(lines: Iterable[str]) -> Iterator[Event]:
    """The events in the lines of a text/event-stream, comments left out."""
    found: dict[str, str] = {}
    for line in lines:
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            found[name] = value
        elif found:
            yield Event(found["id"], found["event"], json.loads(found["data"]))
            found = {}


def text_of(events: Sequence[Event]) -> str:
    """All deltas after the last reset, joined."""
    text = ""
    for event in events:
        if event.kind == "reset":
            text = ""
        elif event.kind == "delta":
            text += event.data["text"]
    return text
