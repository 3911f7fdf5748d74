"""Reading server-sent events with as little work per token as possible.

The SDKs' own iterators build a validated object per chunk, which costs more CPU than all the rest. Here the
body's bytes are cut into lines and a decoder of the vendor's wire format looks at each line. Both
vendors put one JSON text in one ``data:`` line, so an event is a line.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from chatplatform.llm.errors import MalformedResponse, ProviderError
from chatplatform.llm.types import Batch, Finished, ModelRef, StreamEvent

from .failures import transport_errors

if TYPE_CHECKING:
    import httpx2

MAX_LINE = 4_000_000
# Once the answer is complete, how long we wait for the usage that should follow, and for the end of the body.
USAGE_GRACE = 2.0
END_GRACE = 0.2


class StreamDecoder(Protocol):
    """The state of one stream of a vendor's wire format."""

    answered: bool
    """The terminal marker of the text was seen; only usage may follow."""
    closed: bool
    """Nothing that matters can follow."""

    def feed(self, line: bytes) -> Iterable[StreamEvent]:
        """Take one line of the body. Raises ``ProviderError`` for an error event or nonsense."""

    def finish(self) -> Finished:
        """Called once at the end of the body. Raises ``Truncated`` if the marker never came."""


class LineSplitter:
    """Cuts a byte stream into lines, wherever the chunks were cut."""

    def __init__(self, ref: ModelRef) -> None:
        self._rest = b""
        self._ref = ref

    def feed(self, data: bytes) -> list[bytes]:
        lines = (self._rest + data).split(b"\n") if self._rest else data.split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > MAX_LINE:
            raise MalformedResponse(
                "a line of the stream is too long", provider=self._ref.provider, model=self._ref.name
            )
        return lines

    def flush(self) -> list[bytes]:
        rest, self._rest = self._rest, b""
        return [rest] if rest else []


def load_object(text: bytes, ref: ModelRef) -> dict[str, Any]:
    """Decode a JSON object or raise ``MalformedResponse`` (without the text: it may hold the prompt)."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise MalformedResponse("not a JSON object", provider=ref.provider, model=ref.name)
    return value


async def read_batches(
    response: httpx2.Response, decoder: StreamDecoder, ref: ModelRef
) -> AsyncGenerator[Batch, None]:
    """The events of one streaming response, as many together as arrived together; ``Finished`` is the last.

    What arrived before an error is handed over first.
    """
    body, lines = _Body(response), LineSplitter(ref)
    failure = None
    try:
        while not (failure or decoder.closed):
            data = await body.read(decoder.answered)
            batch, failure = _decode(lines.feed(data) if data else lines.flush(), decoder)
            if batch:
                yield batch
            if not data:
                break
        if failure:
            raise failure
        yield [decoder.finish()]
    finally:
        if decoder.closed:
            await body.read_to_end()


def _decode(lines: list[bytes], decoder: StreamDecoder) -> tuple[Batch, ProviderError | None]:
    """The events of some lines, up to the error that is among them."""
    batch: Batch = []
    try:
        for line in lines:
            if line:
                batch += decoder.feed(line)
    except ProviderError as error:
        return batch, error
    return batch, None


class _Body:
    """The body of a response in the pieces in which it arrives."""

    def __init__(self, response: httpx2.Response) -> None:
        self._pieces = _pieces_of(response)
        self._give_up_at: float | None = None

    async def read(self, answered: bool) -> bytes:
        """The next piece; empty at the end.

        Once the answer is complete, a broken connection or two seconds without the rest are an end too.
        """
        if not answered:
            return await anext(self._pieces, b"")
        if self._give_up_at is None:
            self._give_up_at = asyncio.get_running_loop().time() + USAGE_GRACE
        with contextlib.suppress(TimeoutError, *transport_errors()):
            async with asyncio.timeout_at(self._give_up_at):
                return await anext(self._pieces, b"")
        return b""

    async def read_to_end(self) -> None:
        """A body that was read to its end gives its connection back to the pool instead of closing it."""
        with contextlib.suppress(TimeoutError, RuntimeError, *transport_errors()):
            async with asyncio.timeout(END_GRACE):
                async for _ in self._pieces:
                    pass


def _pieces_of(response: httpx2.Response) -> AsyncIterator[bytes]:
    """Around four layers of generators, where the body is not compressed."""
    import httpx2

    stream = response.stream
    if response.headers.get("content-encoding", "identity") == "identity" and isinstance(
        stream, httpx2.AsyncByteStream
    ):
        return aiter(stream)
    return response.aiter_bytes()
