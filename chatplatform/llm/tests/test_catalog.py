from __future__ import annotations

import pytest

from chatplatform.llm.catalog import resolve
from chatplatform.llm.config import GatewayConfig, with_v1
from chatplatform.llm.errors import ModelUnknown
from chatplatform.llm.types import ModelRef


@pytest.mark.parametrize(
    ("name", "provider", "model"),
    [
        ("gpt-4o-mini", "openai", "gpt-4o-mini"),
        ("o3-mini", "openai", "o3-mini"),
        ("o3", "openai", "o3"),
        ("chatgpt-4o-latest", "openai", "chatgpt-4o-latest"),
        ("text-embedding-3-small", "openai", "text-embedding-3-small"),
        ("sim-tps=30,tokens=150", "openai", "sim-tps=30,tokens=150"),
        ("claude-haiku-5-5", "anthropic", "claude-haiku-5-5"),
        ("llama3.1", "llama", "llama3.1"),
        ("llama3.1:8b-instruct-q4_0", "llama", "llama3.1:8b-instruct-q4_0"),
        ("meta-llama/Llama-3.1-8B-Instruct", "llama", "meta-llama/Llama-3.1-8B-Instruct"),
        ("gpt-oss-20b", "llama", "gpt-oss-20b"),
        ("qwen2.5", "llama", "qwen2.5"),
        ("mistral-nemo", "llama", "mistral-nemo"),
        ("deepseek-r1", "llama", "deepseek-r1"),
        ("phi4", "llama", "phi4"),
        ("nomic-embed-text", "llama", "nomic-embed-text"),
        ("openai/my-fine-tune", "openai", "my-fine-tune"),
        ("llama/whatever/else", "llama", "whatever/else"),
        ("anthropic/sim-fast", "anthropic", "sim-fast"),
        ("local", "local", "local"),
        ("local/local", "local", "local"),
    ],
)
def test_it_finds_the_provider_of_a_name(name: str, provider: str, model: str) -> None:
    assert resolve(name) == ModelRef(provider, model)


@pytest.mark.parametrize(
    "name",
    ["", "   ", "gpt", "gpt 4o", "davinci", "claude", "openai/", "local/other", "azure/gpt-4o", "phidelity",
     "o", "oxygen-1", "similar", "gpt-4\n", "x" * 200, "../gpt-4", "llama\x00"],
)  # fmt: skip
def test_it_refuses_a_name_that_nobody_knows(name: str) -> None:
    with pytest.raises(ModelUnknown) as caught:
        resolve(name)
    assert caught.value.name == name


def test_auto_is_the_first_configured_provider() -> None:
    def auto(**config: str) -> str:
        return str(resolve("auto", auto=GatewayConfig(**config).auto_model()))  # type: ignore[arg-type]

    assert auto() == "local/local"
    assert auto(llama_endpoint="http://x", llama_model="qwen3") == "llama/qwen3"
    assert auto(llama_endpoint="http://x", anthropic_api_key="k").startswith("anthropic/claude-")
    assert auto(anthropic_api_key="k", openai_api_key="k", openai_model="gpt-x") == "openai/gpt-x"


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://localhost:11434", "http://localhost:11434/v1"),
        ("http://localhost:11434/", "http://localhost:11434/v1"),
        ("http://localhost:8000/v1", "http://localhost:8000/v1"),
        ("https://gpu.example/llm/v1/", "https://gpu.example/llm/v1"),
        ("localhost:11434", "http://localhost:11434/v1"),
    ],
)
def test_v1_is_added_where_it_is_missing(endpoint: str, url: str) -> None:
    assert with_v1(endpoint) == url


def test_the_configuration_knows_what_is_set_and_hides_the_keys() -> None:
    config = GatewayConfig(openai_api_key="sk-hidden", llama_endpoint="http://x")
    assert config.is_configured("openai")
    assert config.is_configured("llama")
    assert config.is_configured("local")
    assert not config.is_configured("anthropic")
    assert not config.is_configured("nobody")
    assert "sk-hidden" not in repr(config)
