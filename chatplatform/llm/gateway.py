"""The one door to language models.

It finds the provider of a model, keeps one pooled client per provider, and holds every call to its
deadlines. It does not retry and does not fail over: one call here is one request to a provider, and one
possible bill.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Self, TypeVar

from .catalog import resolve
from .config import ANTHROPIC_URL, OPENAI_URL, GatewayConfig
from .errors import NotConfigured, ProviderTimeout
from .providers.anthropic import AnthropicProvider
from .providers.base import Provider
from .providers.llama import LlamaProvider
from .providers.local import LocalProvider
from .providers.openai import OpenAIProvider
from .types import Batch, Completion, CompletionRequest, Embeddings, ModelRef, StreamEvent, Timeouts
from .watch import Watch

T = TypeVar("T")


class Gateway:
    """Streams, completes and embeds. Belongs to one event loop; close it with ``aclose`` or use ``async
    with``.

    Every failure is a ``ProviderError``, an unknown model a ``ModelUnknown``.
    """

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        self._providers: dict[str, Provider] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def resolve(self, model: str | ModelRef) -> ModelRef:
        """The provider and name behind a model name; ``auto`` by what is configured. Raises
        ``ModelUnknown``.
        """
        return model if isinstance(model, ModelRef) else resolve(model, auto=self._config.auto_model())

    async def stream(
        self, request: CompletionRequest, *, timeouts: Timeouts | None = None
    ) -> AsyncGenerator[StreamEvent, None]:
        """The events of one answer, ``Finished`` last.

        Close the generator (``aclose``, or ``contextlib.aclosing``) when you stop early: that ends the
        provider's request. Raises ``ProviderTimeout`` with its ``phase`` when a deadline passes, whatever
        else arrives.
        """
        async with aclosing(self.stream_batches(request, timeouts=timeouts)) as batches:
            async for batch in batches:
                for event in batch:
                    yield event

    async def stream_batches(
        self, request: CompletionRequest, *, timeouts: Timeouts | None = None
    ) -> AsyncGenerator[Batch, None]:
        """The same events, as many together as arrived together: cheaper where there are many streams."""
        ref = self.resolve(request.model)
        watch = Watch(timeouts or self._config.timeouts)
        batches = self._provider(ref).stream(request, ref)
        try:
            while watch.begin():
                batch = await anext(batches, None)
                watch.rest()
                if batch is None:
                    return
                yield batch
        except asyncio.CancelledError:
            if not watch.cancelled_it():
                raise
        finally:
            watch.close()
            await batches.aclose()
        failure = ProviderTimeout(f"{watch.phase} deadline", provider=ref.provider, model=ref.name)
        failure.phase = watch.phase
        raise failure

    async def complete(self, request: CompletionRequest, *, timeouts: Timeouts | None = None) -> Completion:
        """One answer in one piece, asked for without streaming. Only the ``total`` deadline applies."""
        ref = self.resolve(request.model)
        total = (timeouts or self._config.timeouts).total
        return await _within(total, ref, self._provider(ref).complete(request, ref))

    async def embed(
        self, texts: Sequence[str], model: str | ModelRef = "", *, timeouts: Timeouts | None = None
    ) -> Embeddings:
        """One vector per text, in order, from an OpenAI-compatible endpoint, which takes 2,048 texts and 300,000
        tokens at most. ``model`` defaults to the configured one.
        """
        ref = self.resolve(model or self._config.embedding_model)
        total = (timeouts or self._config.timeouts).total
        return await _within(total, ref, self._provider(ref).embed(texts, ref))

    def warm_up(self) -> None:
        """Import the SDKs of the configured providers now (about two seconds, blocking), not in the first
        call.
        """
        for name in _FACTORIES:
            if self._config.is_configured(name):
                self._provider(ModelRef(name, "")).warm_up()

    async def aclose(self) -> None:
        """Close all connections to providers."""
        providers, self._providers = self._providers, {}
        for provider in providers.values():
            await provider.aclose()

    def _provider(self, ref: ModelRef) -> Provider:
        if ref.provider not in self._providers:
            if not self._config.is_configured(ref.provider):
                raise NotConfigured("no key and no endpoint", provider=ref.provider, model=ref.name)
            self._providers[ref.provider] = _FACTORIES[ref.provider](self._config)
        return self._providers[ref.provider]


async def _within(seconds: float, ref: ModelRef, call: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(seconds):
            return await call
    except TimeoutError:
        failure = ProviderTimeout("total deadline", provider=ref.provider, model=ref.name)
        failure.phase = "total"
    raise failure


_FACTORIES: dict[str, Callable[[GatewayConfig], Provider]] = {
    "openai": lambda config: OpenAIProvider(
        api_key=config.openai_api_key,
        base_url=config.openai_base_url or OPENAI_URL,
        max_connections=config.max_connections,
    ),
    "anthropic": lambda config: AnthropicProvider(
        api_key=config.anthropic_api_key,
        base_url=config.anthropic_base_url or ANTHROPIC_URL,
        max_connections=config.max_connections,
    ),
    "llama": lambda config: LlamaProvider(
        endpoint=config.llama_endpoint,
        api_key=config.llama_api_key,
        max_connections=config.max_connections,
    ),
    "local": lambda config: LocalProvider(tokens_per_second=config.local_tokens_per_second),
}
