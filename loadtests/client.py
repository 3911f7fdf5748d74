"""The clients, in a process of their own: `python -m loadtests.client < job.json`.

A job is one JSON object on stdin: `kind` names one of JOBS, the rest are its arguments. Answers are JSON objects, one a
line: `{"event": …, "at": …}` while it runs, `{"result": …}` at the end. Nothing of the platform is imported here.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from loadtests import wire
from loadtests.figures import CLIENT_LAG_MS, Pace, Stream, percentile, ratio, spread, summed_up

AT_ONCE = 32  # handshakes under way
TRIES = 3  # to open a socket
PATIENCE = 60.0  # s beyond the time that a load should take
LAG_EVERY = 0.02
DELTA, RESET, IGNORED = (
    b'{"type":"delta"',
    b'{"type":"reset"',
    (b'{"type":"accepted"', b'{"type":"message"', b'{"type":"reconnect"'),
)
Seat = Sequence[str]  # a conversation's id and a key that may use it


@dataclass(frozen=True)
class Address:
    """Where the load goes."""

    host: str
    port: int

    @property
    def name(self) -> str:
        return f"{self.host}:{self.port}"


def tell(**values: Any) -> None:
    sys.stdout.buffer.write(orjson.dumps(values) + b"\n")
    sys.stdout.buffer.flush()


class Lag:
    """How late this process itself is: a timer that should fire every 20 ms."""

    def __init__(self) -> None:
        self.late: list[tuple[float, float]] = []
        self._task = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            due = time.monotonic() + LAG_EVERY
            await asyncio.sleep(LAG_EVERY)
            now = time.monotonic()
            self.late.append((now, now - due))

    def stop(self, begin: float = 0.0, end: float = float("inf")) -> dict[str, Any]:
        """What it was between these times."""
        self._task.cancel()
        found = spread([late for at, late in self.late if begin <= at <= end])
        return {"client_lag_ms": found, "client_too_late": bool(found["p95"] > CLIENT_LAG_MS)}


# --- Streams -------------------------------------------------------------------------------------------------
class Reading:
    """One stream under way. Frames are only kept; they are looked at when all is over."""

    def __init__(self, live: Live) -> None:
        self.stream = Stream(uuid.uuid4().hex[-8:])
        self.frames: list[tuple[float, bytes]] = []
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._live = live

    def take(self, at: float, frame: bytes) -> None:
        if frame.startswith(DELTA):
            if not self.frames:
                self._live.one_more()
            self.frames.append((at, frame))
        elif not frame.startswith(IGNORED):
            self.frames.append((at, frame))
            if not frame.startswith(RESET):
                self.end()

    def take_http(self, at: float, data: bytes) -> None:
        if not self.frames and b'"content":"' in data:
            self._live.one_more()
        self.frames.append((at, data))

    def end(self, why: str = "") -> None:
        if not self.ended.done():
            self.stream.problem = why
            self.ended.set_result(None)

    def read_events(self) -> Stream:
        """What the platform's frames say."""
        for at, frame in self.frames:
            event = orjson.loads(frame)
            if event["type"] == "delta":
                self.stream.take(event["text"], at)
            elif event["type"] == "reset":
                self.stream.forget()
            elif event["type"] == "error":
                self.stream.problem = str(event["error"]["code"])
            else:
                self.stream.ends += 1
                self.stream.stored = event["reply"]["content"]
                if event["type"] != "completed":
                    self.stream.problem = f"{event['type']}: {event['reply']['error']}"
        return self.stream

    def read_chunks(self) -> Stream:
        """What the simulator's event stream says; an event may be cut in two, so lines are put together."""
        rest = b""
        for at, data in self.frames:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if line.startswith(b"data: {"):
                    choices = orjson.loads(line[6:])["choices"]
                    if choices and (text := choices[0]["delta"].get("content")):
                        self.stream.take(text, at)
        self.stream.ends, self.stream.stored = int(self._done()), self.stream.text
        return self.stream

    def _done(self) -> bool:
        return any(b"data: [DONE]" in data for _, data in self.frames[-3:])


class Live:
    """Tells when all streams have their first token."""

    def __init__(self, count: int) -> None:
        self.missing = count

    def one_more(self) -> None:
        self.missing -= 1
        if not self.missing:
            tell(event="all_live", at=time.monotonic())


async def streams(to: Address, job: dict[str, Any]) -> dict[str, Any]:
    """`count` streams, `rate` of them begun a second, evenly; through the platform if there are `seats`."""
    pace, count = Pace(**job["pace"]), int(job["count"])
    live, lag = Live(count), Lag()
    readings = [Reading(live) for _ in range(count)]
    start = _over_websocket if job["seats"] else _direct
    begins = await start(to, job, readings)
    tell(event="begin", at=time.monotonic())
    origin = time.monotonic()
    for number, (reading, begin) in enumerate(zip(readings, begins, strict=True)):
        await asyncio.sleep(max(0.0, origin + number / job["rate"] - time.monotonic()))
        reading.stream.asked_at = time.monotonic()
        begin()
    await asyncio.wait([reading.ended for reading in readings], timeout=pace.seconds + PATIENCE)
    for reading in readings:
        reading.end("no end in time")
    read = Reading.read_events if job["seats"] else Reading.read_chunks
    seen = [read(reading) for reading in readings]
    result = summed_up(seen, await _began(Address(**job["simulator"])), job["expected"], pace)
    if skip := int(job.get("skip", 0)):  # those that began while the others were still few
        result["first_token_ms"] = spread([s.arrivals[0] - s.asked_at for s in seen[skip:] if s.arrivals])
    return {**result, **lag.stop(*result["window"])}


async def _over_websocket(
    to: Address, job: dict[str, Any], readings: list[Reading]
) -> list[Callable[[], None]]:
    sockets = await _open(to, job["seats"])

    def prepared(socket: wire.WebSocket | str, reading: Reading) -> Callable[[], None]:
        if isinstance(socket, str):
            return lambda: reading.end(socket)
        socket.on_text, socket.on_closed = reading.take, reading.end
        return lambda: socket.send(_message(reading.stream.name))

    return [prepared(*pair) for pair in zip(sockets, readings, strict=True)]


async def _direct(to: Address, job: dict[str, Any], readings: list[Reading]) -> list[Callable[[], None]]:
    async def ask(connection: wire.Http, reading: Reading) -> None:
        connection.on_data = reading.take_http
        try:
            await connection.ask(_completion(to, job["model"], reading.stream.name, stream=True))
            reading.end()
        except wire.Refused as error:
            reading.end(str(error))

    tasks: set[asyncio.Task[None]] = set()
    connections = [await wire.open_http(to.host, to.port) for _ in readings]
    return [
        lambda pair=pair: tasks.add(asyncio.create_task(ask(*pair)))  # type: ignore[misc]
        for pair in zip(connections, readings, strict=True)
    ]


async def _began(simulator: Address) -> dict[str, list[float]]:
    """When the simulator got the requests for each question."""
    connection = await wire.open_http(simulator.host, simulator.port)
    _, body = await connection.ask(wire.head_of("GET", "/_begun", simulator.name, {}))
    connection.close()
    began: dict[str, list[float]] = defaultdict(list)
    for question, at in orjson.loads(wire.joined(body)):
        began[question].append(at)
    return began


async def _open(to: Address, seats: Iterable[Seat]) -> list[wire.WebSocket | str]:
    """A socket for each seat, or why there is none; each is tried three times."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, conversation: str, key: str) -> wire.WebSocket | str:
        path, headers, why = f"/ws/{conversation}", {"Authorization": f"Bearer {key}"}, ""
        for _ in range(TRIES):
            async with room:
                try:
                    return await wire.connect(to.host, to.port, path, headers, number)
                except (wire.Refused, OSError) as error:
                    why = str(error)
            await asyncio.sleep(1)
        return why

    return await asyncio.gather(*(one(number, *seat) for number, seat in enumerate(seats)))


def _message(content: str) -> bytes:
    return orjson.dumps(
        {"type": "message", "content": content, "client_id": uuid.uuid4().hex, "use_cache": False}
    )


def _completion(to: Address, model: str, content: str, *, stream: bool, key: str = "bench") -> bytes:
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": content}]}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return wire.post(to.name, "/v1/chat/completions", {"Authorization": f"Bearer {key}"}, orjson.dumps(body))


# --- As many as possible: every client asks again as soon as it has the answer --------------------------------------
Ask = Callable[[str], Awaitable[str]]  # the answer to a question; raises Refused


async def closed_loop(to: Address, job: dict[str, Any]) -> dict[str, Any]:
    """`clients` side by side for `seconds`, after `warm_up` more; every answer is compared with what was `expected`.

    With `per_second`, they ask no more often than that together.
    """
    clients = int(job["clients"])
    asks = await _asks(to, job, job["seats"])
    lag, chats = Lag(), Chats(job["expected"])
    begin = time.monotonic() + job["warm_up"]
    end = begin + job["seconds"]
    await chats.until(end, asks, every=clients / job["per_second"] if job.get("per_second") else 0.0)
    counted = [seconds for at, seconds in chats.took if begin <= at < end]
    return {
        "clients": clients,
        "done": len(chats.took),
        "per_second": ratio(len(counted), end - begin),
        "took_ms": spread(counted),
        **chats.failures(),
        "window": [begin, end],
        **lag.stop(begin, end),
    }


async def by_turns(to: Address, job: dict[str, Any]) -> dict[str, Any]:
    """As `closed_loop`, of several `groups` by turns, in their `order`: each has `seconds` at a time, and answers that
    are then under way end before the next begins. So what else the machine does falls on all alike. The first
    `warm_up` of them do not count. What is in a group is otherwise than in the job.
    """
    asks = {name: await _group(to, {**job, **group}) for name, group in job["groups"].items()}
    found: dict[str, dict[str, Any]] = {}
    for name in job["order"][: job["warm_up"]]:
        await Chats(job["expected"]).until(time.monotonic() + job["seconds"], asks[name])
    for name in job["order"][job["warm_up"] :]:
        chats, begin = Chats(job["expected"]), time.monotonic()
        await chats.until(begin + job["seconds"], asks[name])
        one = found.setdefault(name, {"windows": [], "took": [], "failed": 0, "faults": []})
        one["windows"].append([begin, time.monotonic(), len(chats.took)])
        one["took"] += [seconds for _, seconds in chats.took]
        failures = chats.failures()
        one["failed"] += failures["failed"]
        one["faults"] += failures["faults"]
    return {name: {"took_ms": spread(one.pop("took")), **one} for name, one in found.items()}


async def _group(to: Address, job: dict[str, Any]) -> list[Ask]:
    return await _asks(Address(**job["other"]) if "other" in job else to, job, job["seats"])


class Chats:
    """Clients that ask, each again as soon as it has the answer."""

    def __init__(self, expected: str) -> None:
        self.took: list[tuple[float, float]] = []  # when an answer was whole, and the seconds that it took
        self._failed: list[str] = []
        self._expected = expected

    async def until(self, end: float, asks: Sequence[Ask], *, every: float = 0.0) -> None:
        """Until then; each client every so many seconds at most. An answer that is under way then is waited for."""
        clients = len(asks)
        await asyncio.gather(
            *(self._chat(ask, end, every, every * number / clients) for number, ask in enumerate(asks))
        )

    def failures(self) -> dict[str, Any]:
        """How many failed, and why."""
        return {"failed": len(self._failed), "faults": sorted(set(self._failed))[:5]}

    async def _chat(self, ask: Ask, end: float, every: float, wait: float) -> None:
        due = time.monotonic() + wait
        while (asked := time.monotonic()) < end:
            if every:
                await asyncio.sleep(max(due - asked, 0))
                asked, due = time.monotonic(), due + every
            name = uuid.uuid4().hex[-8:]
            try:
                right = await asyncio.wait_for(ask(name), PATIENCE) == self._expected.format(name=name)
                if right:
                    self.took.append((now := time.monotonic(), now - asked))
                else:
                    self._failed.append("another text")
            except (wire.Refused, TimeoutError, KeyError, TypeError) as error:
                self._failed.append(f"{type(error).__name__}: {error}"[:120])
                await asyncio.sleep(0.1)


async def _asks(to: Address, job: dict[str, Any], seats: Sequence[Seat]) -> list[Ask]:
    """Each client's way to ask, in its share of the conversations."""
    ways = {"ws": _ask_websocket, "rest": _ask_rest, "completions": _ask_completions}
    clients = int(job["clients"])
    share = [seats[number::clients] for number in range(clients)]
    return await asyncio.gather(*(ways[job["way"]](to, job, seats) for seats in share))


async def _ask_websocket(to: Address, job: dict[str, Any], seats: Sequence[Seat]) -> Ask:
    """Takes turns between its conversations, so that none grows long; with `turns_each`, after so many in one."""
    opened = [socket for socket in await _open(to, seats) if isinstance(socket, wire.WebSocket)]
    if not opened:
        raise wire.Refused("no socket could be opened")
    each = range(job.get("turns_each", 1))
    sockets = itertools.cycle(socket for socket in opened for _ in each)

    async def ask(question: str) -> str:
        socket = next(sockets)
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def take(_: float, frame: bytes) -> None:
            if not frame.startswith((DELTA, *IGNORED)) and not answer.done():
                event = orjson.loads(frame)
                right = event["type"] == "completed"
                answer.set_result(event["reply"]["content"] if right else frame.decode()[:100])

        socket.on_text = take
        socket.on_closed = lambda why: take(0.0, orjson.dumps({"type": why}))
        if socket.closed:
            raise wire.Refused(socket.closed)
        socket.send(_message(question))
        return await answer

    return ask


async def _ask_rest(to: Address, job: dict[str, Any], seats: Sequence[Seat]) -> Ask:
    connection, turns = await wire.open_http(to.host, to.port), itertools.cycle(seats)

    async def ask(question: str) -> str:
        conversation, key = next(turns)
        body = orjson.dumps({"content": question, "use_cache": False})
        path, headers = f"/api/v1/conversations/{conversation}/messages", {"Authorization": f"Bearer {key}"}
        answer = await _json(connection, wire.post(to.name, path, headers, body))
        return str(answer["reply"]["content"])

    return ask


async def _ask_completions(to: Address, job: dict[str, Any], seats: Sequence[Seat]) -> Ask:
    """OpenAI's protocol: the simulator itself, or a proxy before it."""
    connection, stream = await wire.open_http(to.host, to.port), bool(job.get("stream"))

    async def ask(question: str) -> str:
        request = _completion(to, job["model"], question, stream=stream, key=job.get("key", "bench"))
        if not stream:
            return str((await _json(connection, request))["choices"][0]["message"]["content"])
        _, body = await connection.ask(request)
        events = [
            orjson.loads(line[6:]) for line in wire.joined(body).split(b"\n") if line.startswith(b"data: {")
        ]
        return "".join(c["delta"].get("content") or "" for event in events for c in event["choices"])

    return ask


async def _json(connection: wire.Http, request: bytes) -> Any:
    status, body = await connection.ask(request)
    if status != 200:
        raise wire.Refused(f"{status} {body[:100].decode(errors='replace')}")
    return orjson.loads(wire.joined(body))


# --- Idle sockets ----------------------------------------------------------------------------------------------------
async def idle(to: Address, job: dict[str, Any]) -> dict[str, Any]:
    """A socket for each seat, held for `hold` seconds; then a message in `wake` of them, all at once."""
    began = time.monotonic()
    sockets: list[wire.WebSocket] = []
    refused: list[str] = []
    seats, steps = job["seats"], []
    for wanted in job["steps"]:
        found = await _open(to, seats[len(sockets) + len(refused) : wanted])
        sockets += [socket for socket in found if isinstance(socket, wire.WebSocket)]
        refused += [why for why in found if isinstance(why, str)]
        opened = time.monotonic()
        tell(event="open", at=opened, sockets=len(sockets))
        await asyncio.sleep(job["hold"])
        tell(event="held", at=time.monotonic(), sockets=len(sockets))
        step = {
            "sockets": wanted,
            "opening_s": opened - began,
            "refused": len(refused),
            "faults": refused[-3:],
        }
        steps.append(step | await _still_well(sockets, job))
        began = time.monotonic()
    for socket in sockets:
        socket.close()
    return {"steps": steps}


async def _still_well(sockets: list[wire.WebSocket], job: dict[str, Any]) -> dict[str, Any]:
    """Whether they are all open, and whether some that are asked answer."""
    live = Live(-1)
    asked = [
        (socket, Reading(live))
        for socket in sockets[:: max(1, len(sockets) // job["wake"])]
        if not socket.closed
    ]
    for socket, reading in asked:
        socket.on_text, socket.on_closed = reading.take, reading.end
        reading.stream.asked_at = time.monotonic()
        socket.send(_message(reading.stream.name))
    await asyncio.wait([reading.ended for _, reading in asked], timeout=PATIENCE)
    seen = [reading.read_events() for _, reading in asked]
    right = [s for s in seen if s.ends == 1 and s.text == s.stored == job["expected"].format(name=s.name)]
    return {
        "alive": sum(not socket.closed for socket in sockets),
        "closed": sorted({socket.closed for socket in sockets if socket.closed})[:5],
        "pings_each": percentile(sorted(socket.pings for socket in sockets), 50),
        "asked": len(asked),
        "answered": len(right),
        "first_token_ms": spread([stream.arrivals[0] - stream.asked_at for stream in right]),
    }


JOBS: dict[str, Callable[[Address, dict[str, Any]], Awaitable[dict[str, Any]]]] = {
    "streams": streams,
    "closed_loop": closed_loop,
    "by_turns": by_turns,
    "idle": idle,
}


async def main() -> None:
    job = orjson.loads(sys.stdin.buffer.read())
    tell(result=await JOBS[job["kind"]](Address(**job["to"]), job))


if __name__ == "__main__":
    asyncio.run(main())
