"""OpenAI, and whatever else speaks its chat-completions protocol, through the official SDK."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from chatplatform.llm.types import Batch, Completion, CompletionRequest, Embeddings, ModelRef

from .openai_wire import OpenAIDecoder, build_body, parse_completion, parse_embeddings
from .sdk import HEADERS, OneLoop, SdkCalls, http_options

CHAT, EMBEDDINGS = "/chat/completions", "/embeddings"


class OpenAIProvider:
    """See ``base.Provider``."""

    def __init__(self, *, api_key: str, base_url: str, max_connections: int) -> None:
        # The SDK insists on a key, local servers do not.
        self._api_key = api_key or "none"
        self._base_url = base_url
        self._max_connections = max_connections
        self._pooled: SdkCalls | None = None
        self._loop = OneLoop()

    def stream(self, request: CompletionRequest, ref: ModelRef) -> AsyncGenerator[Batch, None]:
        body = build_body(request, ref, self._base_url)
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        return self._sdk().batches(CHAT, body, OpenAIDecoder(request, ref), ref)

    async def complete(self, request: CompletionRequest, ref: ModelRef) -> Completion:
        answer = await self._sdk().fetch(CHAT, build_body(request, ref, self._base_url), ref)
        return parse_completion(answer, request, ref)

    async def embed(self, texts: Sequence[str], ref: ModelRef) -> Embeddings:
        body = {"model": ref.name, "input": list(texts), "encoding_format": "base64"}
        answer = await self._sdk().fetch(EMBEDDINGS, body, ref)
        return parse_embeddings(answer, len(texts), ref)

    def _sdk(self) -> SdkCalls:
        self._loop.check()
        if self._pooled is None:
            from openai import AsyncOpenAI, DefaultAioHttpClient

            http = DefaultAioHttpClient(**http_options(self._max_connections))
            client = AsyncOpenAI(
                api_key=self._api_key,
                base_url=self._base_url,
                max_retries=0,
                default_headers=HEADERS,
                http_client=http,
            )
            self._pooled = SdkCalls(client, http)
        return self._pooled

    def warm_up(self) -> None:
        import openai.resources.chat.completions  # noqa: F401

    async def aclose(self) -> None:
        if self._pooled is not None:
            await self._pooled.aclose()
