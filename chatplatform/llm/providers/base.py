"""What every provider can do."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from chatplatform.llm.types import Batch, Completion, CompletionRequest, Embeddings, ModelRef


class Provider(Protocol):
    """A vendor's protocol behind one shape. Deadlines are the gateway's; all errors are ``ProviderError``."""

    def stream(self, request: CompletionRequest, ref: ModelRef) -> AsyncGenerator[Batch, None]:
        """Events as they arrive together, ``Finished`` last. Closing the generator releases the connection."""

    async def complete(self, request: CompletionRequest, ref: ModelRef) -> Completion:
        """The whole answer in one response."""

    async def embed(self, texts: Sequence[str], ref: ModelRef) -> Embeddings:
        """One vector per text, in order."""

    def warm_up(self) -> None:
        """Do the slow imports now. Blocks for up to two seconds."""

    async def aclose(self) -> None:
        """Close all connections; the provider is not usable afterwards."""
