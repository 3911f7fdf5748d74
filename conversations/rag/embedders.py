"""The embedder that the settings ask for."""

from __future__ import annotations

import asyncio
from functools import cache

from django.conf import settings

from chatplatform.llm.gateway import Gateway
from chatplatform.llm.types import Timeouts
from conversations.gateway import config
from conversations.rag.embeddings import LOCAL, Embedder, GatewayEmbedder, WordLlamaEmbedder

WITHIN = 20.0  # s for a batch; a question that waits longer is answered by its words alone


@cache
def embedder() -> Embedder:
    """`local`, or EMBEDDING_MODEL at the provider that serves it."""
    if settings.EMBEDDING_MODEL == LOCAL:
        return WordLlamaEmbedder()
    return GatewayEmbedder(settings.EMBEDDING_MODEL, _through_gateway)


def warm_up() -> None:
    """Load the local model now (about half a second), if it is the one in use."""
    if settings.EMBEDDING_MODEL == LOCAL:
        embedder().embed(["warm"])


def _through_gateway(texts: list[str]) -> list[list[float]]:
    """Blocking: called from threads and commands, never from an event loop. Raises ProviderError."""

    async def embed() -> list[list[float]]:
        async with Gateway(config()) as gateway:
            return await gateway.embed(texts, settings.EMBEDDING_MODEL, timeouts=Timeouts(total=WITHIN))

    return asyncio.run(embed())
