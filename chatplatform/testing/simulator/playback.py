"""Sending an answer: its pace, and its faults."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import orjson
from aiohttp import HttpVersion11, web

from .answers import Answer
from .pace import WHEEL, Track
from .settings import Fault, parse_fault
from .wire import Wire

KEEPALIVE_EVERY = 0.05
# Without a pace, this many tokens go into one write.
BLOCK = 64
FOREVER = 3600.0
_MESSAGE = "the simulator was told to"


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error instead of an answer."""

    status: int
    openai_code: str
    anthropic_code: str


REFUSALS = {
    Fault.RATE_LIMIT: Refusal(429, "rate_limit_exceeded", "rate_limit_error"),
    Fault.ERROR: Refusal(500, "server_error", "api_error"),
    Fault.UNAVAILABLE: Refusal(503, "service_unavailable", "api_error"),
    Fault.OVERLOADED: Refusal(529, "overloaded_error", "overloaded_error"),
    Fault.UNAUTHORIZED: Refusal(401, "invalid_api_key", "authentication_error"),
    Fault.BAD_REQUEST: Refusal(400, "invalid_request_error", "invalid_request_error"),
    Fault.CONTENT_FILTER: Refusal(400, "content_filter", "content_filter"),
    Fault.REDIRECT: Refusal(307, "redirect", "redirect"),
}


class Player:
    """Sends one answer. ``sent`` counts the tokens that went out."""

    def __init__(self, request: web.Request, wire: Wire, answer: Answer) -> None:
        self._request = request
        self._wire = wire
        self._answer = answer
        self._fault, position = parse_fault(answer.settings.fault)
        count = len(answer.tokens)
        self._position = count // 2 if position is None else min(position, count)
        self.sent = 0

    async def play(self) -> web.StreamResponse:
        """Answer the request to its end, or to its fault."""
        start = asyncio.get_running_loop().time()
        if self._fault in REFUSALS:
            return self._refuse(REFUSALS[self._fault])
        if not self._answer.prompt.stream:
            return await self._whole(start)
        response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
        await response.prepare(self._request)
        await self._stream(response, start)
        return response

    def _refuse(self, refusal: Refusal) -> web.Response:
        anthropic = "anthropic-version" in self._request.headers
        code = refusal.anthropic_code if anthropic else refusal.openai_code
        # Real providers repeat what was wrong, key and prompt included.
        key = self._request.headers.get("authorization") or self._request.headers.get("x-api-key")
        message = f"{_MESSAGE}: {key} {self._answer.prompt.question}"
        headers = {"location": "/_redirected"} if refusal.status == 307 else {}
        if refusal.status == 429:
            headers["retry-after"] = f"{self._answer.settings.retry_after:g}"
        return web.json_response(
            self._wire.failure(refusal.status, code, message), status=refusal.status, headers=headers
        )

    async def _stream(self, response: web.StreamResponse, start: float) -> None:
        await response.write(self._wire.opening(self._answer))
        breaks = self._fault in _BREAKS
        await self._tokens(response, start, self._position if breaks else len(self._answer.tokens))
        if breaks:
            await self._break(response)
            return
        await self._write(response, self._wire.ending(self._answer))
        if self._fault is Fault.STALL_AT_END:
            await asyncio.sleep(FOREVER)
        await self._write(response, self._wire.closing(self._answer))
        await response.write_eof()

    async def _tokens(self, response: web.StreamResponse, start: float, count: int) -> None:
        """Each token at its own time counted from the start, so that delays do not add up."""
        settings = self._answer.settings
        before, after = self._wire.around_token(self._answer)
        frames = [before + orjson.dumps(token) + after for token in self._answer.tokens[:count]]
        first = start + settings.ttft
        if settings.tps > 0 and not settings.chunk:
            await self._paced(frames, first, 1 / settings.tps)
            return
        time = asyncio.get_running_loop().time
        step = BLOCK if settings.tps <= 0 else 1
        for number in range(0, count, step):
            due = first + number / settings.tps if settings.tps > 0 else first
            delay = due - time()
            if delay > 0:
                await asyncio.sleep(delay)
            block = frames[number : number + step]
            await self._write(response, b"".join(block))
            self.sent += len(block)

    async def _paced(self, frames: list[bytes], first: float, every: float) -> None:
        """Past aiohttp, whose way for each write costs more than all else: the body is in chunks already."""
        transport = self._request.transport
        if transport is None:
            raise ConnectionResetError("the client has left")
        if self._request.version >= HttpVersion11:
            frames = [b"%x\r\n%b\r\n" % (len(frame), frame) for frame in frames]
        track = Track(transport, frames, first, every)
        try:
            await self._request.app[WHEEL].play(track)
        finally:
            self.sent = track.sent

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        for piece in _cut(data, self._answer.settings.chunk):
            await response.write(piece)
            if self._answer.settings.chunk:
                # The kernel would join writes that follow each other at once.
                await asyncio.sleep(0.0005)

    async def _break(self, response: web.StreamResponse) -> None:
        if self._fault is Fault.DROP:
            self._drop()
        elif self._fault is Fault.MALFORMED:
            await response.write(b'data: {"choices": [{"delta": \n\n')
            await response.write_eof()
        elif self._fault is Fault.OVERLOADED_INSIDE:
            await response.write(self._wire.failure_event("overloaded_error", _MESSAGE))
            await response.write_eof()
        elif self._fault is Fault.TRUNCATE:
            await response.write_eof()
        else:
            await self._hang(response, b": keep-alive\n\n")

    async def _hang(self, response: web.StreamResponse, comment: bytes) -> None:
        if self._fault is not Fault.KEEPALIVE:
            await asyncio.sleep(FOREVER)
        while True:
            await response.write(comment)
            await asyncio.sleep(KEEPALIVE_EVERY)

    def _drop(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()

    async def _whole(self, start: float) -> web.StreamResponse:
        """The same without streaming: the answer comes when its last token would."""
        settings, answer = self._answer.settings, self._answer
        pace = len(answer.tokens) / settings.tps if settings.tps > 0 else 0.0
        delay = start + settings.ttft + pace - asyncio.get_running_loop().time()
        if delay > 0:
            await asyncio.sleep(delay)
        body = orjson.dumps(self._wire.whole(answer))
        if self._fault is Fault.OVERLOADED_INSIDE:
            failure = self._wire.failure(200, "overloaded_error", _MESSAGE)
            return web.json_response(failure)
        if self._fault in _BREAKS or self._fault is Fault.STALL_AT_END:
            return await self._break_whole(body)
        self.sent = answer.output_tokens
        return web.Response(body=body, content_type="application/json")

    async def _break_whole(self, body: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "application/json"})
        await response.prepare(self._request)
        if self._fault in (Fault.KEEPALIVE, Fault.STALL, Fault.STALL_AT_END):
            await self._hang(response, b"\n")
        await response.write(body[: len(body) // 2])
        if self._fault is Fault.DROP:
            self._drop()
        else:
            await response.write_eof()
        return response


_BREAKS = frozenset(
    {
        Fault.DROP,
        Fault.MALFORMED,
        Fault.OVERLOADED_INSIDE,
        Fault.TRUNCATE,
        Fault.STALL,
        Fault.KEEPALIVE,
    }
)


def _cut(data: bytes, size: int) -> Iterator[bytes]:
    if size <= 0:
        yield data
        return
    for start in range(0, len(data), size):
        yield data[start : start + size]
