"""Anthropic's Claude models, through the official SDK."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from chatplatform.llm.errors import BadRequest
from chatplatform.llm.types import Batch, Completion, CompletionRequest, Embeddings, ModelRef

from .anthropic_wire import AnthropicDecoder, build_body, parse_completion
from .sdk import HEADERS, OneLoop, SdkCalls, http_options

MESSAGES = "/v1/messages"


class AnthropicProvider:
    """See ``base.Provider``. It has no embeddings."""

    def __init__(self, *, api_key: str, base_url: str, max_connections: int) -> None:
        # Without an explicit key the SDK would look for credentials in the environment and on disk.
        self._api_key = api_key or "none"
        self._base_url = base_url
        self._max_connections = max_connections
        self._pooled: SdkCalls | None = None
        self._loop = OneLoop()

    def stream(self, request: CompletionRequest, ref: ModelRef) -> AsyncGenerator[Batch, None]:
        body = build_body(request, ref) | {"stream": True}
        return self._sdk().batches(MESSAGES, body, AnthropicDecoder(request, ref), ref)

    async def complete(self, request: CompletionRequest, ref: ModelRef) -> Completion:
        answer = await self._sdk().fetch(MESSAGES, build_body(request, ref), ref)
        return parse_completion(answer, request, ref)

    async def embed(self, texts: Sequence[str], ref: ModelRef) -> Embeddings:
        raise BadRequest("this provider has no embeddings", provider=ref.provider, model=ref.name)

    def _sdk(self) -> SdkCalls:
        self._loop.check()
        if self._pooled is None:
            from anthropic import AsyncAnthropic, DefaultAioHttpClient

            http = DefaultAioHttpClient(**http_options(self._max_connections))
            client = AsyncAnthropic(
                api_key=self._api_key,
                base_url=self._base_url,
                max_retries=0,
                default_headers=HEADERS,
                http_client=http,
            )
            self._pooled = SdkCalls(client, http)
        return self._pooled

    def warm_up(self) -> None:
        import anthropic.resources.messages  # noqa: F401

    async def aclose(self) -> None:
        if self._pooled is not None:
            await self._pooled.aclose()
