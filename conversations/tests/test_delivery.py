"""What both ASGI servers have to do alike: take their leave, bear with slow clients, notice dead ones."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import httpx2
import psutil
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from chatplatform.testing import cast
from chatplatform.testing.clients import Caller, Socket, as_event, text_of
from chatplatform.testing.live import Live, free_port
from chatplatform.testing.stage import until
from conversations.streaming import window
from conversations.tests.test_handshake import Visitor
from tenants.services import configuration

pytestmark = [pytest.mark.slow, pytest.mark.processes]
TEXT = ("x" * 89 + " ") * 1000  # 90,000 characters


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
def test_it_takes_its_leave_and_nobody_loses_a_word(live: Live, server: str) -> None:
    with another_web_server(live, server, DRAIN_SECONDS="6") as web:
        leave_with_everybody(live, web, web.processes[server])


def leave_with_everybody(live: Live, web: Live, process: subprocess.Popen[bytes]) -> None:
    old, new = api(web), api(live)
    talks = [old.begin("sim-tokens=280,tps=30") for _ in range(2)]
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
        process.send_signal(signal.SIGTERM)
        frames = socket.until("reconnect")
        assert 0 < frames[-1]["after_ms"] <= 3000

        readiness = httpx2.get(f"{web.url}/readyz")
        assert (readiness.status_code, readiness.json()["status"]) == (503, "shutting_down")
        assert httpx2.get(f"{web.url}/livez").status_code == 200
        with pytest.raises(InvalidStatus) as refused, old.socket(talks[0]):
            pass
        assert refused.value.response.status_code == 503
        problem = old.say(talks[0])
        assert (problem.status_code, problem.json()["code"]) == (503, "shutting_down")
        socket.say(client_id="late")
        frames += socket.until("error")
        assert frames[-1]["error"]["code"] == "shutting_down"

        streamed += list(stream)  # ends, although the reply goes on
        assert streamed[-1].kind == "delta"
        answer = waiting.result()
        assert (answer.status_code, answer.json()["reply"]["status"]) == (200, "completed")
        frames += rest_of(socket)
        assert socket.connection.close_code == 4503
        assert process.wait(20) == 0
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
    assert web.processes[server].wait(20) == 0


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
        assert process.wait(20) == 0


# --- Slow clients --------------------------------------------------------------------------------------------------
class Deaf:
    """A WebSocket whose client writes and reads only when told to, and never answers a ping."""

    def __init__(self, live: Live, conversation: str) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect(("127.0.0.1", live.port))
        self.address = self.socket.getsockname()
        lines = (
            f"GET /ws/{conversation} HTTP/1.1",
            f"Host: 127.0.0.1:{live.port}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            f"Authorization: Bearer {live.keys['acme']}",
        )
        self.socket.sendall("\r\n".join((*lines, "", "")).encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self.socket.recv(1)
        assert answer.startswith(b"HTTP/1.1 101")

    def send(self, **frame: Any) -> None:
        payload = json.dumps(frame).encode()
        assert len(payload) < 126
        self.socket.sendall(bytes([0x81, 0x80 | len(payload), 0, 0, 0, 0]) + payload)

    def is_held_by(self, process: psutil.Process) -> bool:
        """Whether the server still has the connection."""
        return any(one.raddr == self.address for one in process.net_connections() if one.raddr)


@pytest.fixture(scope="module")
def talkative(live: Live, django_db_blocker: Any) -> Iterator[None]:
    """Acme's answers may be long."""
    with django_db_blocker.unblock():
        acme = cast.state("acme").ref
        usual = cast.state("acme").configuration.max_tokens_per_response
        configuration.change(acme, {"max_tokens_per_response": 20_000}, author="test", by_staff=True)
        yield
        configuration.change(acme, {"max_tokens_per_response": usual}, author="test", by_staff=True)


@pytest.mark.usefixtures("talkative")
def test_who_does_not_read_takes_bounded_memory_and_who_reads_late_misses_nothing(
    web: Live, server: str
) -> None:
    caller = api(web)
    conversation = caller.begin()
    reply = caller.ask(conversation, f"[[sim: tps=0 text='{TEXT}']]")["reply"]
    assert len(reply["content"]) > 80_000
    process = psutil.Process(web.processes[server].pid)
    deaf = Deaf(web, conversation)
    before = process.memory_info().rss
    for _ in range(500):  # each asks for the text twice over: 100 MB
        deaf.send(type="resume", reply_id=reply["id"])
        time.sleep(0.005)
    time.sleep(1)
    assert process.memory_info().rss - before < 20_000_000  # the garbage collector takes its time
    until(lambda: not deaf.is_held_by(process), "it is given up", within=15)
    with caller.socket(conversation) as socket:
        socket.send(type="resume", reply_id=reply["id"])
        assert text_of(socket.reply()) == reply["content"]
    path = f"/api/v1/conversations/{conversation}/replies/{reply['id']}"
    assert read_late(web, path, 50).count(b"x") == 50 * read_late(web, path, 1).count(b"x")


def read_late(live: Live, path: str, times: int) -> bytes:
    """All that is answered to so many requests at once, by more than the system keeps of it for a client."""
    asked = (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{live.port}\r\nAuthorization: Bearer {live.keys['acme']}\r\n"
    )
    with socket.create_connection(("127.0.0.1", live.port), timeout=10) as connection:
        connection.sendall(
            f"{asked}\r\n".encode() * (times - 1) + f"{asked}Connection: close\r\n\r\n".encode()
        )
        time.sleep(0.5 if times > 1 else 0)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


@pytest.mark.usefixtures("talkative")
def test_a_client_that_stops_acknowledging_is_sent_no_more_and_closed(web: Live) -> None:
    caller = api(web)
    conversation = caller.begin()
    with caller.socket(conversation) as socket:
        socket.say(f"[[sim: tps=5000 text='{TEXT}']]")  # not at once: there has to be time to acknowledge
        seen = [as_event(frame) for frame in socket.until("delta")]
        reply_id = seen[0].data["reply_id"]
        socket.send(type="ack", reply_id=reply_id, cursor=seen[-1].id)
        seen += [as_event(frame) for frame in rest_of(socket)]
        assert socket.connection.close_code == 4408
    assert len(text_of(seen)) < 2 * window.LARGEST
    with caller.socket(conversation) as socket:
        socket.send(type="resume", reply_id=reply_id, after=seen[-1].id)
        while seen[-1].kind == "delta":
            seen += [as_event(socket.receive())]
            socket.send(type="ack", reply_id=reply_id, cursor=seen[-1].id)
    assert text_of(seen) == caller.reply(conversation, reply_id)["content"]


# --- Dead clients, and too many ------------------------------------------------------------------------------------
def test_a_client_that_answers_no_ping_is_dropped(web: Live, server: str) -> None:
    deaf = Deaf(web, api(web).begin())
    process = psutil.Process(web.processes[server].pid)
    assert deaf.is_held_by(process)
    until(lambda: not deaf.is_held_by(process), "it is dropped", within=12)


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


def test_event_streams_count_as_windows_do(live: Live, web: Live) -> None:
    limit = int(web.environment["MAX_CONNECTIONS_PER_CONTACT"])
    visitor = Visitor(web, "acme.localhost")
    here, elsewhere = visitor.api(), replace_live(visitor, live).api()
    with ExitStack() as opened:
        stream = opened.enter_context(here.streaming(visitor.conversation, "[[sim: tps=20 tokens=400]]"))
        reply = next(stream).data["reply_id"]
        for _ in range(limit - 2):
            opened.enter_context(here.reading(visitor.conversation, reply))
        with visitor.socket():
            for caller in (here, elsewhere):
                with pytest.raises(AssertionError, match='"code":"rate_limited"'):
                    caller.events(visitor.conversation, reply)
                refused = caller.say(visitor.conversation, stream=True)
                # Not `reply_in_progress`: nothing was looked at, or stored.
                assert (refused.status_code, refused.json()["level"]) == (429, "user")
        here.cancel(visitor.conversation, reply)
    whole = f"/conversations/{visitor.conversation}/replies/{reply}/events"
    for _ in range(2 * limit):
        until(lambda: here.get(whole).status_code == 200, "every one that ends makes room")


def replace_live(visitor: Visitor, live: Live) -> Visitor:
    """The same visitor, at another process."""
    other: Visitor = Visitor.__new__(Visitor)
    other.__dict__.update(visitor.__dict__, live=live)
    return other
