"""The embedder that the settings ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from django.conf import settings

from chatplatform.llm.gateway import Gateway
from chatplatform.llm.types import Embeddings, ModelRef, Timeouts
from conversations.gateway import config, named_model
from conversations.rag.embeddings import LOCAL, Embedder, GatewayEmbedder, WordLlamaEmbedder

WITHIN = 20.0  # s for a batch; a question that waits longer is answered by its words alone


def model() -> ModelRef | None:
    """The model of a provider that is in use; None for the built-in one, which costs nothing."""
    return None if settings.EMBEDDING_MODEL == LOCAL else named_model(settings.EMBEDDING_MODEL)


def embedder(call: Callable[[ModelRef, list[str]], list[list[float]]]) -> Embedder:
    """`local`, or EMBEDDING_MODEL through `call`, which sees to its cost."""
    used = model()
    if used is None:
        return WordLlamaEmbedder()
    return GatewayEmbedder(settings.EMBEDDING_MODEL, partial(call, used))


def warm_up() -> None:
    """Load the local model now (about half a second), if it is the one in use."""
    if model() is None:
        WordLlamaEmbedder().embed(["warm"])


def ask(model: ModelRef, texts: list[str]) -> Embeddings:
    """Blocking: called from threads and commands, never from an event loop. Raises ProviderError."""

    async def embed() -> Embeddings:
        async with Gateway(config()) as gateway:
            return await gateway.embed(texts, model, timeouts=Timeouts(total=WITHIN))

    return asyncio.run(embed())
