"""What a gateway needs to know, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from .types import ModelRef, Timeouts

OPENAI_URL = "https://api.openai.com/v1"
ANTHROPIC_URL = "https://api.anthropic.com"


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """Keys, addresses and defaults. Empty strings mean "not set"; keys never show in ``repr``.

    A provider is configured when it has a key or an address of its own; ``local`` always is.
    ``local_tokens_per_second`` 0 means without delay. ``*_model`` are what ``auto`` picks.
    """

    openai_api_key: str = field(default="", repr=False)
    openai_base_url: str = ""
    anthropic_api_key: str = field(default="", repr=False)
    anthropic_base_url: str = ""
    llama_endpoint: str = ""
    llama_api_key: str = field(default="", repr=False)
    local_tokens_per_second: float = 40.0
    openai_model: str = "gpt-5.4-mini"
    anthropic_model: str = "claude-haiku-5-5"
    llama_model: str = "llama3.1"
    embedding_model: str = "text-embedding-3-small"
    timeouts: Timeouts = field(default_factory=Timeouts)
    max_connections: int = 2000

    def is_configured(self, provider: str) -> bool:
        """Whether calls to this provider can be tried at all."""
        return bool(
            {
                "openai": self.openai_api_key or self.openai_base_url,
                "anthropic": self.anthropic_api_key or self.anthropic_base_url,
                "llama": self.llama_endpoint,
                "local": "always",
            }.get(provider)
        )

    def auto_model(self) -> ModelRef:
        """What ``auto`` means here: the first configured of OpenAI, Anthropic, Llama, local."""
        defaults = {"openai": self.openai_model, "anthropic": self.anthropic_model, "llama": self.llama_model}
        for provider, model in defaults.items():
            if self.is_configured(provider):
                return ModelRef(provider, model)
        return ModelRef("local", "local")


def with_v1(endpoint: str) -> str:
    """``http://localhost:11434`` → ``http://localhost:11434/v1``; a path that ends in ``/v1`` stays."""
    parts = urlsplit(endpoint if "://" in endpoint else f"http://{endpoint}")
    path = parts.path.rstrip("/")
    if not path.endswith("/v1"):
        path += "/v1"
    return urlunsplit(parts._replace(path=path))
