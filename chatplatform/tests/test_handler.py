"""What the handler does differently from Django's: no thread where none is needed, and the client's leave."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, reset_queries
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import path

from chatplatform.handler import Handler


async def on_the_loop(request: HttpRequest) -> HttpResponse:
    return HttpResponse(b"asynchronous")


def in_a_thread(request: HttpRequest) -> HttpResponse:
    threads.append(threading.get_ident())
    return HttpResponse(b"synchronous")


urlpatterns = [path("api/v1/loop", on_the_loop), path("api/v1/thread", in_a_thread)]
threads: list[int] = []


class Client:
    """One HTTP request of a client who leaves when told to."""

    def __init__(self, address: str) -> None:
        self.scope = {"type": "http", "method": "GET", "path": address, "headers": [], "query_string": b""}
        self.left = asyncio.Event()
        self.sent: list[Mapping[str, Any]] = []
        self.messages = iter([{"type": "http.request", "body": b""}])

    async def receive(self) -> dict[str, Any]:
        if (message := next(self.messages, None)) is not None:
            return message
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Mapping[str, Any]) -> None:
        self.sent.append(message)

    async def call(self, handler: Handler) -> None:
        await handler(self.scope, self.receive, self.send)


class Slow(Handler):
    """Answers when hell freezes over."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.ended_by = asyncio.Event(), ""

    async def run_get_response(self, request: HttpRequest) -> HttpResponseBase:
        self.asked.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.ended_by = "cancelled"
            raise
        raise AssertionError


@pytest.fixture
def finished() -> Iterator[list[int]]:
    """The threads in which requests were finished."""
    seen: list[int] = []

    def note(**kwargs: Any) -> None:
        seen.append(threading.get_ident())

    request_finished.connect(note, weak=False)
    yield seen
    request_finished.disconnect(note)


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The threads whose database connections were closed."""
    seen: list[int] = []
    monkeypatch.setattr(
        "chatplatform.handler.close_old_connections", lambda: seen.append(threading.get_ident())
    )
    return seen


def test_an_asynchronous_view_needs_no_thread(
    monkeypatch: pytest.MonkeyPatch, settings: Any, finished: list[int], closed: list[int]
) -> None:
    settings.ROOT_URLCONF = __name__
    handler = Handler()
    for receiver in (reset_queries, close_old_connections):
        request_started.disconnect(receiver)  # as on import: Django's tools for tests connect them again
    started: list[threading.Thread] = []
    start = threading.Thread.start

    def note(thread: threading.Thread) -> None:
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", note)

    async def run() -> Client:
        client = Client("/api/v1/loop")
        await client.call(handler)
        return client

    client = asyncio.run(run())
    assert [message.get("body") for message in client.sent] == [None, b"asynchronous"]
    assert started == []
    assert finished == [threading.get_ident()]
    assert closed == []


def test_a_synchronous_view_is_finished_in_its_own_thread(
    settings: Any, finished: list[int], closed: list[int]
) -> None:
    settings.ROOT_URLCONF = __name__
    threads.clear()

    async def run() -> Client:
        client = Client("/api/v1/thread")
        await client.call(Handler())
        return client

    client = asyncio.run(run())
    assert client.sent[-1]["body"] == b"synchronous"
    assert finished == closed == threads
    assert threads != [threading.get_ident()]


def test_a_client_that_leaves_ends_its_request(closed: list[int]) -> None:
    async def run() -> tuple[Slow, Client]:
        handler, client = Slow(), Client("/api/v1/loop")
        call = asyncio.create_task(client.call(handler))
        await handler.asked.wait()
        client.left.set()
        await asyncio.wait_for(call, 5)
        return handler, client

    handler, client = asyncio.run(run())
    assert (handler.ended_by, client.sent) == ("cancelled", [])
    assert len(closed) == 1 and closed != [threading.get_ident()]


@pytest.mark.parametrize("times", [1, 2])  # a loop that ends cancels what uvicorn has cancelled before
def test_a_server_that_gives_up_says_so(times: int) -> None:
    async def run() -> tuple[Slow, Client]:
        handler, client = Slow(), Client("/api/v1/loop")
        call = asyncio.create_task(client.call(handler))
        await handler.asked.wait()
        for _ in range(times):
            call.cancel()
        await call
        return handler, client

    handler, client = asyncio.run(run())
    assert handler.ended_by == "cancelled"
    start, body = client.sent
    assert (start["status"], json.loads(body["body"])["code"]) == (503, "shutting_down")
