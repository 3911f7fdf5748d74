"""OpenAI, and whatever else speaks its chat-completions protocol, through the official SDK."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from chatplatform.llm.types import Completion, CompletionRequest, ModelRef, StreamEvent

from .openai_wire import OpenAIDecoder, build_body, parse_completion, parse_embeddings
from .sdk import HEADERS, OneLoop, SdkCalls, http_options

if TYPE_CHECKING:
    from openai import AsyncOpenAI

# The API takes up to 2,048 texts and 300,000 tokens at once.
EMBEDDING_BATCH = 128


class OpenAIProvider:
    """See ``base.Provider``."""

    def __init__(self, *, api_key: str, base_url: str, max_connections: int) -> None:
        # The SDK insists on a key, local servers do not.
        self._api_key = api_key or "none"
        self._base_url = base_url
        self._max_connections = max_connections
        self._pooled: tuple[AsyncOpenAI, SdkCalls] | None = None
        self._loop = OneLoop()

    async def stream(self, request: CompletionRequest, ref: ModelRef) -> AsyncGenerator[StreamEvent, None]:
        client, calls = self._sdk()
        body: dict[str, Any] = build_body(request, ref, self._base_url) | {
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        events = calls.events(
            lambda: client.chat.completions.with_streaming_response.create(**body),
            OpenAIDecoder(request, ref),
            ref,
        )
        try:
            async for event in events:
                yield event
        finally:
            await events.aclose()

    async def complete(self, request: CompletionRequest, ref: ModelRef) -> Completion:
        client, calls = self._sdk()
        body = build_body(request, ref, self._base_url)
        answer = await calls.fetch(
            lambda: client.chat.completions.with_streaming_response.create(**body), ref
        )
        return parse_completion(answer, request, ref)

    async def embed(self, texts: Sequence[str], ref: ModelRef) -> list[list[float]]:
        vectors: list[list[float]] = []
        for batch in _batches(texts):
            vectors += await self._embed_batch(batch, ref)
        return vectors

    async def _embed_batch(self, texts: list[str], ref: ModelRef) -> list[list[float]]:
        client, calls = self._sdk()
        create = client.embeddings.with_streaming_response.create
        answer = await calls.fetch(lambda: create(model=ref.name, input=texts, encoding_format="base64"), ref)
        return parse_embeddings(answer, len(texts), ref)

    def _sdk(self) -> tuple[AsyncOpenAI, SdkCalls]:
        self._loop.check()
        if self._pooled is None:
            from openai import AsyncOpenAI, DefaultAioHttpClient, OpenAIError

            client = AsyncOpenAI(
                api_key=self._api_key,
                base_url=self._base_url,
                max_retries=0,
                default_headers=HEADERS,
                http_client=DefaultAioHttpClient(**http_options(self._max_connections)),
            )
            self._pooled = client, SdkCalls(OpenAIError)
        return self._pooled

    def warm_up(self) -> None:
        import openai.resources.chat.completions  # noqa: F401

    async def aclose(self) -> None:
        if self._pooled is not None:
            await self._pooled[0].close()


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(texts), EMBEDDING_BATCH):
        yield list(texts[start : start + EMBEDDING_BATCH])
