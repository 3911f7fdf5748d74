"""Text to vectors. The default model ships inside its wheel and needs no network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
LOCAL = "local"


class Embedder(Protocol):
    """Turns texts into vectors of length 1, so that a dot product is their cosine.

    `name` says which model made a vector: vectors of different names are never compared.
    """

    @property
    def name(self) -> str: ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """An array of shape (texts, dimension), float32, one row per text in order."""
        ...


class WordLlamaEmbedder:
    """256 dimensions out of averaged word vectors: about 0.1 ms a text, no GPU, no network."""

    name = "wordllama-l2-supercat-256"
    dimension = 256

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See Embedder. A text without a known word is all zeros."""
        if not texts:
            return np.zeros((0, self.dimension), np.float32)
        return normalised(_wordllama().embed([text or " " for text in texts]))


class GatewayEmbedder:
    """Vectors from an OpenAI-compatible endpoint, through whatever calls it.

    `call` takes the texts and returns one vector each, in order; what it raises passes through.
    """

    def __init__(
        self, name: str, call: Callable[[list[str]], Sequence[Sequence[float]]], batch: int = 128
    ) -> None:
        self.name = name
        self._call = call
        self._batch = batch

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See Embedder. Raises ValueError if the endpoint does not return one vector per text."""
        rows: list[Sequence[float]] = []
        for start in range(0, len(texts), self._batch):
            rows.extend(self._call(list(texts[start : start + self._batch])))
        if len(rows) != len(texts):
            raise ValueError(f"{self.name} returned {len(rows)} vectors for {len(texts)} texts")
        return normalised(np.asarray(rows, np.float32).reshape(len(rows), -1))


def normalised(vectors: Vectors) -> Vectors:
    """The rows at length 1; rows of zeros stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-9), np.float32)


@cache
def _wordllama() -> Any:
    import wordllama

    # It looks for its tokenizer online unless it is told where its own files are.
    return wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
