"""What the two SDK-based providers share: one pooled client per event loop, errors translated."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from chatplatform.llm.errors import ProviderError
from chatplatform.llm.types import ModelRef, StreamEvent

from .failures import from_status, from_transport, transport_errors
from .sse import StreamDecoder, load_object, read_events

if TYPE_CHECKING:
    import httpx2

CONNECT_TIMEOUT = 10.0
# Compression would hold tokens back and costs CPU.
HEADERS = {"accept-encoding": "identity"}


class SdkResponse(Protocol):
    """An SDK's response whose body was not read yet."""

    http_response: httpx2.Response

    async def read(self) -> bytes: ...


Call = Callable[[], AbstractAsyncContextManager[Any]]


def http_options(max_connections: int) -> dict[str, Any]:
    """Arguments for an SDK's aiohttp client.

    No read time-out, because the gateway's deadlines rule, and no redirects: a tenant may choose the
    address, and a redirect would lead around every check of it.
    """
    import httpx2

    return {
        "timeout": httpx2.Timeout(None, connect=CONNECT_TIMEOUT),
        "limits": httpx2.Limits(max_connections=max_connections, keepalive_expiry=30.0),
        "follow_redirects": False,
        "verify": _tls(),
    }


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    """Reading the certificates takes 20 ms; all clients of a process share them."""
    import httpx2

    return httpx2.create_ssl_context()


class SdkCalls:
    """Runs calls of one SDK and translates what they raise.

    The error is raised outside of the ``except`` block so that it does not carry the SDK's error, whose
    message and request hold the prompt, as its context.
    """

    def __init__(self, sdk_error: type[Exception]) -> None:
        self._caught = (sdk_error, *transport_errors())

    async def events(
        self, call: Call, decoder: StreamDecoder, ref: ModelRef
    ) -> AsyncGenerator[StreamEvent, None]:
        """Open a streaming call and decode it. Closing the generator closes the response."""
        try:
            async with call() as response:
                events = read_events(response.http_response, decoder, ref)
                try:
                    async for event in events:
                        yield event
                finally:
                    await events.aclose()
            return
        except self._caught as exc:
            failure = translate(exc, ref)
        raise failure

    async def fetch(self, call: Call, ref: ModelRef) -> dict[str, Any]:
        """Make a call and return its JSON body."""
        try:
            async with call() as response:
                body = await response.read()
            failure = None
        except self._caught as exc:
            failure = translate(exc, ref)
        if failure is not None:
            raise failure
        return load_object(body, ref)


def translate(exc: BaseException, ref: ModelRef) -> ProviderError:
    """Our error for an SDK's or its transport's."""
    response = getattr(exc, "response", None)
    if response is not None:
        return from_status(response.status_code, response.headers, getattr(exc, "body", None), ref)
    return from_transport(exc, ref)


class OneLoop:
    """Remembers the event loop of the pooled connections: they cannot be used from another one."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def check(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        if self._loop is not loop:
            raise RuntimeError("a Gateway belongs to the event loop that used it first; make one per loop")
