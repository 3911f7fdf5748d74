"""What the two SDK-based providers share: one pooled client per event loop, errors translated."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson

from chatplatform.llm.errors import ProviderError
from chatplatform.llm.types import Batch, ModelRef

from .failures import from_status, from_transport, transport_errors
from .sse import StreamDecoder, load_object, read_batches

if TYPE_CHECKING:
    import httpx2

CONNECT_TIMEOUT = 10.0
# Compression would hold tokens back and costs CPU.
HEADERS = {"accept-encoding": "identity"}


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
    """Posts requests with one SDK's client, and translates what it raises.

    The client's own ``post`` is the SDKs' way for requests that they have no method for. It keeps their
    authentication, headers, connections and errors, and leaves out the walk through every message of the
    prompt, which costs more than the rest of the call: the bodies are made in the wire format as it is.

    The error is raised outside of the ``except`` block so that it does not carry the SDK's error, whose
    message and request hold the prompt, as its context.
    """

    def __init__(
        self, client: Any, stream_class: type[Any], sdk_error: type[Exception], **options: Any
    ) -> None:
        self._client = client
        self._stream_class = stream_class
        self._options = options
        self._caught = (sdk_error, *transport_errors())

    async def batches(
        self, path: str, body: dict[str, Any], decoder: StreamDecoder, ref: ModelRef
    ) -> AsyncGenerator[Batch, None]:
        """Open a streaming call and decode it. Closing the generator closes the response."""
        try:
            async with (
                self._open(path, body) as response,
                aclosing(read_batches(response, decoder, ref)) as batches,
            ):
                async for batch in batches:
                    yield batch
            return
        except self._caught as exc:
            failure = translate(exc, ref)
        raise failure

    async def fetch(self, path: str, body: dict[str, Any], ref: ModelRef) -> dict[str, Any]:
        """Make a call and return its JSON body."""
        try:
            async with self._open(path, body) as response:
                answer = await response.aread()
            failure = None
        except self._caught as exc:
            failure = translate(exc, ref)
        if failure is not None:
            raise failure
        return load_object(answer, ref)

    async def aclose(self) -> None:
        await self._client.close()

    @asynccontextmanager
    async def _open(self, path: str, body: dict[str, Any]) -> AsyncGenerator[httpx2.Response, None]:
        """The response, whose body was not read yet."""
        import httpx2

        response: httpx2.Response = await self._client.post(
            path,
            content=orjson.dumps(body),
            cast_to=httpx2.Response,
            stream=True,
            stream_cls=self._stream_class,
            options=self._options,
        )
        try:
            yield response
        finally:
            await response.aclose()


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
