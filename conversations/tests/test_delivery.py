"""What both ASGI servers have to do alike: take their leave, bear with slow clients, notice dead ones."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx2
import psutil
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from chatplatform.testing.clients import Caller, Socket, as_event, text_of
from chatplatform.testing.live import Live, free_port
from chatplatform.testing.stage import until
from conversations.tests.test_handshake import Visitor

pytestmark = [pytest.mark.slow, pytest.mark.processes]
LONG = "sim-tokens=3000,tps=0,ttft=0"


@contextmanager
def another_web_server(live: Live, server: str, **environment: str) -> Iterator[Live]:
    """One more web server of the same platform, that a test may end."""
    other = replace(live, port=free_port(), processes={})
    other.environment = {**live.environment, "PORT": str(other.port), **environment}
    other.start(server)
    try:
        until(other.answers, "it answers")
        yield other
    finally:
        for name in list(other.processes):
            other.stop(name)


@pytest.fixture(params=["daphne", "uvicorn"])
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def web(live: Live, server: str) -> Iterator[Live]:
    with another_web_server(live, server) as other:
        yield other


def api(live: Live) -> Caller:
    return Caller(live, live.keys["acme"])


# --- Deploys -------------------------------------------------------------------------------------------------------
def test_it_takes_its_leave_and_nobody_loses_a_word(live: Live, web: Live, server: str) -> None:
    old, new = api(web), api(live)
    talks = [old.begin("sim-tokens=120,tps=30") for _ in range(2)]
    short = old.begin("sim-tokens=10,tps=10")
    with (
        ThreadPoolExecutor() as pool,
        old.socket(talks[0]) as socket,
        old.streaming(talks[1]) as stream,
    ):
        socket.say()
        seen = [as_event(frame) for frame in socket.until("delta")]
        streamed = [next(stream), next(stream)]
        waiting = pool.submit(old.say, short)
        until(lambda: old.get(f"/conversations/{short}/messages").json()["results"], "it is accepted")
        process = web.processes[server]
        process.send_signal(signal.SIGTERM)
        frames = socket.until("reconnect")
        assert 0 < frames[-1]["after_ms"] <= 1000

        readiness = httpx2.get(f"{web.url}/readyz")
        assert (readiness.status_code, readiness.json()["status"]) == (503, "shutting_down")
        assert httpx2.get(f"{web.url}/livez").status_code == 200
        with pytest.raises(InvalidStatus) as refused, old.socket(talks[0]):
            pass
        assert refused.value.response.status_code == 503
        problem = Caller(web, web.keys["acme"]).say(old_conversation := talks[0])
        assert (problem.status_code, problem.json()["code"]) == (503, "shutting_down"), old_conversation
        socket.say(client_id="late")
        frames += socket.until("error")
        assert frames[-1]["error"]["code"] == "shutting_down"

        streamed += list(stream)  # ends, although the reply goes on
        assert streamed[-1].kind == "delta"
        answer = waiting.result()
        assert (answer.status_code, answer.json()["reply"]["status"]) == (200, "completed")
        frames += rest_of(socket)
        assert socket.connection.close_code == 4503
        assert process.wait(5) == 0
    seen += [as_event(frame) for frame in frames if "cursor" in frame]
    reply_id = seen[0].data["reply_id"]
    with new.socket(talks[0]) as socket:
        socket.send(type="resume", reply_id=reply_id, after=seen[-1].id)
        seen += socket.reply()
    assert seen == new.events(talks[0], reply_id)
    streamed += new.events(talks[1], streamed[0].data["reply_id"], after=streamed[-1].id)
    for found in (seen, streamed):
        assert text_of(found) == found[-1].data["reply"]["content"]


def rest_of(socket: Socket) -> list[dict[str, Any]]:
    frames = []
    try:
        while True:
            frames.append(socket.receive())
    except ConnectionClosed:
        return frames


def test_a_request_that_cannot_wait_any_longer_is_told_so(live: Live, web: Live, server: str) -> None:
    caller = api(web)
    conversation = caller.begin("sim-tokens=100,tps=20")
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(caller.say, conversation)
        until(
            lambda: caller.get(f"/conversations/{conversation}/messages").json()["results"], "it is accepted"
        )
        web.processes[server].send_signal(signal.SIGTERM)
        answer = waiting.result()
    assert (answer.status_code, answer.json()["code"]) == (503, "shutting_down")
    reply = answer.json()["reply"]
    assert reply["status"] == "generating"
    assert api(live).events(conversation, reply["id"])[-1].kind == "completed"
    assert web.processes[server].wait(5) == 0


def test_a_second_signal_hurries(live: Live, server: str) -> None:
    with (
        another_web_server(live, server, DRAIN_SECONDS="60") as web,
        api(web).socket(api(web).begin()) as open_one,
    ):
        process = web.processes[server]
        process.send_signal(signal.SIGTERM)
        open_one.until("reconnect")
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert open_one.close_code() == 4503
        assert process.wait(5) == 0


# --- Slow clients --------------------------------------------------------------------------------------------------
def test_a_client_that_does_not_read_takes_bounded_memory(live: Live, web: Live, server: str) -> None:
    caller = api(web)
    conversation = caller.begin(LONG)
    reply_id = caller.ask(conversation)["reply"]["id"]
    process = psutil.Process(web.processes[server].pid)
    with connect(
        f"{web.ws}/{conversation}",
        additional_headers=caller.headers,
        sock=narrow(web.port),
        max_size=None,
        max_queue=1,
        ping_interval=None,
    ) as connection:
        before = process.memory_info().rss
        for _ in range(150):  # each asks for some 300 kB
            connection.send(json.dumps({"type": "resume", "reply_id": reply_id}))
        time.sleep(2.5)
        grown = process.memory_info().rss - before
        assert grown < 16_000_000
        began = time.monotonic()
        until(lambda: len(open_sockets(process, web.port)) == 0, "it is given up")
        assert time.monotonic() - began < 15
    with caller.socket(conversation) as socket:
        socket.send(type="resume", reply_id=reply_id)
        found = socket.reply()
    assert text_of(found) == caller.reply(conversation, reply_id)["content"]


def narrow(port: int) -> socket.socket:
    """A connection whose receive buffer is small."""
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.connect(("127.0.0.1", port))
    return narrow


def open_sockets(process: psutil.Process, port: int) -> list[Any]:
    return [
        one for one in process.net_connections() if one.status == "ESTABLISHED" and one.laddr.port == port
    ]


def test_a_client_that_stops_acknowledging_is_sent_no_more_and_closed(web: Live) -> None:
    caller = api(web)
    conversation = caller.begin(LONG)
    whole = caller.ask(conversation)["reply"]["content"]
    with caller.socket(conversation) as socket:
        socket.send(type="resume", reply_id=(reply_id := newest(caller, conversation)))
        seen = [as_event(socket.receive()) for _ in range(3)]
        # What is on its way does not count; from the acknowledgement on, the window does.
        socket.send(type="ack", reply_id=reply_id, cursor=seen[-1].id)
        seen += [as_event(frame) for frame in rest_of(socket)]
        assert socket.connection.close_code in (4408, None) or seen[-1].kind == "completed"
    assert whole.startswith(text_of(seen))


def newest(caller: Caller, conversation: str) -> str:
    return str(caller.get(f"/conversations/{conversation}/messages").json()["results"][-1]["id"])


# --- Dead clients, and too many ------------------------------------------------------------------------------------
def test_a_client_that_answers_no_ping_is_dropped(web: Live, server: str) -> None:
    caller = api(web)
    with connect(
        f"{web.ws}/{caller.begin()}", additional_headers=caller.headers, ping_interval=None
    ) as connection:
        process = psutil.Process(web.processes[server].pid)
        caller.http.close()
        assert len(open_sockets(process, web.port)) == 1
        silence(connection)
        until(lambda: not open_sockets(process, web.port), "it is dropped", within=3 + 3 + 5)


def silence(connection: Any) -> None:
    """From now on nothing is read, and so no ping answered."""
    connection.recv_messages.pause()
    threading.Event().wait(0.1)


def test_a_visitor_can_have_so_many_windows(live: Live, web: Live) -> None:
    limit = int(web.environment["MAX_CONNECTIONS_PER_CONTACT"])
    visitor = Visitor(live, "acme.localhost")
    there = replace_live(visitor, web)
    opened = [visitor.socket() for _ in range(limit - 1)] + [there.socket()]
    for one in opened:
        one.__enter__()
    for place in (visitor, there):
        with pytest.raises(InvalidStatus) as refused, place.socket():
            pass
        assert refused.value.response.status_code == 429
    opened.pop().__exit__(None, None, None)

    def fits() -> bool:
        try:
            with visitor.socket():
                return True
        except InvalidStatus:
            return False

    until(fits, "there is room again", within=5)
    with Visitor(live, "acme.localhost").socket():  # others are not concerned
        pass
    for one in opened:
        one.__exit__(None, None, None)


def replace_live(visitor: Visitor, live: Live) -> Visitor:
    """The same visitor, at another process."""
    other: Visitor = Visitor.__new__(Visitor)
    other.__dict__.update(visitor.__dict__, live=live)
    return other
