"""The HTTP server: routes, control, and what it remembers for the tests."""

from __future__ import annotations

import asyncio
import base64
from array import array
from collections import Counter, deque
from dataclasses import asdict, replace
from typing import Any

import orjson
from aiohttp import web

from chatplatform.llm.tokens import count_pieces

from .answers import Answer, compose, embed
from .pace import WHEEL, Wheel
from .playback import FOREVER, REFUSALS, Player
from .settings import Fault, Settings, parse_fault
from .wire import Wire
from .wire_anthropic import AnthropicWire
from .wire_openai import OpenAIWire

KEPT_REQUESTS = 1000
KEPT_TIMES = 20_000
DIMENSIONS = 256


class State:
    """Settings that can change at run time, the queue of faults, counts, and the last requests."""

    def __init__(self, settings: Settings) -> None:
        self._initial = settings
        self.reset()

    def reset(self) -> None:
        """Back to the settings of the start; forget everything."""
        self.settings = self._initial
        self.faults: deque[str] = deque()
        self.requests: deque[dict[str, Any]] = deque(maxlen=KEPT_REQUESTS)
        # Of each answer: the question, and when its schedule began, on the monotonic clock.
        self.begun: deque[tuple[str, float]] = deque(maxlen=KEPT_TIMES)
        self.counts: Counter[str] = Counter()
        self.active = 0
        self._peers: set[Any] = set()

    def note_connection(self, request: web.Request) -> None:
        if request.transport is not None:
            self._peers.add(request.transport.get_extra_info("peername"))

    def control(self, body: dict[str, Any]) -> None:
        """Apply a ``POST /_control``. Raises ``ValueError``."""
        settings = self.settings.updated(body.get("settings") or {})
        faults = _queued(body.get("faults") or [])
        if body.get("reset"):
            self.reset()
            settings = self.settings.updated(body.get("settings") or {})
        self.settings = settings
        self.faults.extend(faults)

    def stats(self) -> dict[str, Any]:
        return {
            "requests": self.counts["requests"],
            "completed": self.counts["completed"],
            "cancelled": self.counts["cancelled"],
            "connections": len(self._peers),
            "active": self.active,
            "input_tokens": self.counts["input_tokens"],
            "output_tokens": self.counts["output_tokens"],
            "queued_faults": list(self.faults),
            "settings": asdict(self.settings),
        }


def _queued(entries: list[Any]) -> list[str]:
    """``["drop@3", {"fault": "error", "times": 2}]`` → three faults."""
    faults: list[str] = []
    for entry in entries:
        fault, times = (entry, 1) if isinstance(entry, str) else (entry["fault"], int(entry.get("times", 1)))
        parse_fault(fault)
        faults += [fault] * times
    return faults


STATE = web.AppKey("state", State)


def build_app(settings: Settings) -> web.Application:
    """The application. Run it with ``handler_cancellation``, so that it notices clients that leave."""
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app[STATE] = State(settings)
    app[WHEEL] = Wheel()
    app.add_routes(
        [
            web.post("/v1/chat/completions", _chat_completions),
            web.post("/v1/messages", _messages),
            web.post("/v1/embeddings", _embeddings),
            web.get("/v1/models", _models),
            web.post("/_control", _control),
            web.get("/_stats", _stats),
            web.get("/_requests", _requests),
            web.get("/_begun", _begun),
            web.post("/_redirected", _redirected),
        ]
    )
    return app


async def _chat_completions(request: web.Request) -> web.StreamResponse:
    return await _answer(request, OpenAIWire())


async def _messages(request: web.Request) -> web.StreamResponse:
    return await _answer(request, AnthropicWire())


async def _answer(request: web.Request, wire: Wire) -> web.StreamResponse:
    state = request.app[STATE]
    try:
        answer = compose(wire.parse(await _body(request, state)), state.settings, state.counts["requests"])
    except (ValueError, KeyError, TypeError) as exc:
        return web.json_response(wire.failure(400, "invalid_request_error", str(exc)), status=400)
    answer = _with_queued_fault(answer, state)
    state.requests[-1]["fault"] = answer.settings.fault
    return await _play(Player(request, wire, answer), answer, state)


async def _body(request: web.Request, state: State) -> dict[str, Any]:
    body = orjson.loads(await request.read())
    if not isinstance(body, dict):
        raise ValueError("not an object")
    state.note_connection(request)
    state.counts["requests"] += 1
    at = asyncio.get_running_loop().time()
    number = state.counts["requests"]
    state.requests.append({"path": request.path, "at": at, "number": number, "fault": "", "body": body})
    return body


def _with_queued_fault(answer: Answer, state: State) -> Answer:
    """A request that names its own fault leaves the queue alone."""
    if answer.settings.fault or not state.faults:
        return answer
    return replace(answer, settings=replace(answer.settings, fault=state.faults.popleft()))


async def _play(player: Player, answer: Answer, state: State) -> web.StreamResponse:
    request = state.requests[-1]
    state.active += 1
    state.begun.append((answer.prompt.question, asyncio.get_running_loop().time()))
    state.counts["input_tokens"] += answer.input_tokens
    try:
        response = await player.play()
    except (asyncio.CancelledError, ConnectionError):
        state.counts["cancelled"] += 1
        raise
    finally:
        state.active -= 1
        state.counts["output_tokens"] += player.sent
        request |= {"input_tokens": answer.input_tokens, "output_tokens": player.sent}
    state.counts["completed"] += 1
    return response


async def _embeddings(request: web.Request) -> web.StreamResponse:
    state = request.app[STATE]
    try:
        body = await _body(request, state)
        texts = [body["input"]] if isinstance(body["input"], str) else list(body["input"])
        dimensions = int(body.get("dimensions") or DIMENSIONS)
        rows = [_embedding_row(n, text, dimensions, body) for n, text in enumerate(texts)]
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        return web.json_response(OpenAIWire().failure(400, "invalid_request_error", str(exc)), status=400)
    fault, _ = parse_fault(state.faults.popleft() if state.faults else "")
    if refusal := REFUSALS.get(fault) if fault else None:
        failure = OpenAIWire().failure(refusal.status, refusal.openai_code, "the simulator was told to")
        return web.json_response(failure, status=refusal.status)
    read = count_pieces(texts)
    state.counts["input_tokens"] += read
    if fault is Fault.STALL:
        await asyncio.sleep(FOREVER)
    if fault is Fault.DROP and request.transport is not None:
        request.transport.abort()
    usage = None if fault is Fault.NO_USAGE else {"prompt_tokens": read, "total_tokens": read}
    return web.json_response({"object": "list", "data": rows, "model": body["model"], "usage": usage})


def _embedding_row(number: int, text: str, dimensions: int, body: dict[str, Any]) -> dict[str, Any]:
    vector: list[float] | str = embed(text, dimensions)
    if body.get("encoding_format") == "base64":
        vector = base64.b64encode(array("f", vector).tobytes()).decode()
    return {"object": "embedding", "index": number, "embedding": vector}


async def _models(request: web.Request) -> web.Response:
    names = ("sim-fast", "sim-tps=30,tokens=150", "sim-embedding")
    rows = [{"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "sim"} for name in names]
    return web.json_response({"object": "list", "data": rows})


async def _control(request: web.Request) -> web.Response:
    state = request.app[STATE]
    try:
        state.control(orjson.loads(await request.read() or b"{}"))
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        return web.json_response({"error": str(exc)}, status=400)
    return web.json_response(state.stats())


async def _stats(request: web.Request) -> web.Response:
    return web.json_response(request.app[STATE].stats())


async def _requests(request: web.Request) -> web.Response:
    return web.json_response(list(request.app[STATE].requests))


async def _begun(request: web.Request) -> web.Response:
    return web.Response(body=orjson.dumps(list(request.app[STATE].begun)), content_type="application/json")


async def _redirected(request: web.Request) -> web.Response:
    request.app[STATE].counts["requests"] += 1
    return web.json_response({"error": "nobody should follow a redirect"}, status=418)
