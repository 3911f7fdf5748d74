"""Llama and the other open models, on any server with an OpenAI-compatible endpoint (Ollama, vLLM,
llama.cpp).
"""

from __future__ import annotations

from chatplatform.llm.config import with_v1

from .openai import OpenAIProvider


class LlamaProvider(OpenAIProvider):
    """The OpenAI protocol at an address of one's own; the key is optional, ``/v1`` is added where it is
    missing.
    """

    def __init__(self, *, endpoint: str, api_key: str, max_connections: int) -> None:
        super().__init__(api_key=api_key, base_url=with_v1(endpoint), max_connections=max_connections)
