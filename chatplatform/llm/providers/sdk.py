"""What the two SDK-based providers share: one pooled client per event loop, errors translated."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson

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
    """Posts requests over one SDK's HTTP client, with its address, authentication and headers.

    The SDKs' own methods walk through every message of the prompt, and even their plain ``post`` makes address,
    headers and options anew for each call, which costs more than sending it. Here these are made once, and the
    bodies in the wire format as it is.
    """

    def __init__(self, client: Any, http: httpx2.AsyncClient) -> None:
        import httpx2

        self._client, self._http = client, http
        headers = {**client.auth_headers, **client.default_headers}
        self._headers = httpx2.Headers(
            {name: value for name, value in headers.items() if isinstance(value, str)}
        )
        self._base = str(client.base_url).rstrip("/")
        self._addresses: dict[str, httpx2.URL] = {}
        self._extensions = {"timeout": http.timeout.as_dict()}

    async def batches(
        self, path: str, body: dict[str, Any], decoder: StreamDecoder, ref: ModelRef
    ) -> AsyncGenerator[Batch, None]:
        """Open a streaming call and decode it. Closing the generator closes the response."""
        try:
            async with (
                self._open(path, body, ref) as response,
                aclosing(read_batches(response, decoder, ref)) as batches,
            ):
                async for batch in batches:
                    yield batch
            return
        except transport_errors() as exc:
            failure = from_transport(exc, ref)
        raise failure  # outside of the block: its context would be an error that holds the prompt

    async def fetch(self, path: str, body: dict[str, Any], ref: ModelRef) -> dict[str, Any]:
        """Make a call and return its JSON body."""
        try:
            async with self._open(path, body, ref) as response:
                answer = await response.aread()
            failure = None
        except transport_errors() as exc:
            failure = from_transport(exc, ref)
        if failure is not None:
            raise failure
        return load_object(answer, ref)

    async def aclose(self) -> None:
        await self._client.close()

    @asynccontextmanager
    async def _open(
        self, path: str, body: dict[str, Any], ref: ModelRef
    ) -> AsyncGenerator[httpx2.Response, None]:
        """The response, whose body was not read yet. Raises ``ProviderError`` for a status that is no success."""
        response = await self._http.send(self._request(path, orjson.dumps(body)), stream=True)
        try:
            if not response.is_success:
                await response.aread()
                raise from_status(response.status_code, response.headers, _json(response), ref)
            yield response
        finally:
            await response.aclose()

    def _request(self, path: str, content: bytes) -> httpx2.Request:
        import httpx2

        if path not in self._addresses:
            self._addresses[path] = httpx2.URL(self._base + path)
        to = self._addresses[path]
        return httpx2.Request("POST", to, headers=self._headers, content=content, extensions=self._extensions)


def _json(response: httpx2.Response) -> object:
    """The body, or None if it is not JSON."""
    try:
        return orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return None


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
