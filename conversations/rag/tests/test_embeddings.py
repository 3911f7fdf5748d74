"""Embedders: shapes, lengths, and no network."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import numpy as np
import pytest

from conversations.rag.embeddings import GatewayEmbedder, WordLlamaEmbedder


def test_the_local_model_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    vectors = WordLlamaEmbedder().embed(["send it back", "return it", "the weather in spring"])
    assert vectors.shape == (3, WordLlamaEmbedder.dimension)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]


def test_no_text_and_empty_text_are_fine() -> None:
    assert WordLlamaEmbedder().embed([]).shape == (0, WordLlamaEmbedder.dimension)
    assert np.isfinite(WordLlamaEmbedder().embed(["", "\0"])).all()


def test_a_remote_model_is_asked_in_batches_and_normalised() -> None:
    asked: list[list[str]] = []

    def call(texts: list[str]) -> Sequence[Sequence[float]]:
        asked.append(texts)
        return [[3.0, 4.0, 0.0] for _ in texts]

    vectors = GatewayEmbedder("remote", call, batch=2).embed(["a", "b", "c"])
    assert asked == [["a", "b"], ["c"]]
    assert np.allclose(vectors, [[0.6, 0.8, 0.0]] * 3)


def test_a_remote_model_that_loses_a_text_is_an_error() -> None:
    with pytest.raises(ValueError, match="1 vectors for 2 texts"):
        GatewayEmbedder("remote", lambda texts: [[1.0]]).embed(["a", "b"])
