"""From a model's name to its provider.

Names are recognised by family, not by a list: lists of models age within weeks. Whether the provider is
configured, allowed or priced is somebody else's question.
"""

from __future__ import annotations

import re

from .errors import ModelUnknown
from .types import ModelRef

PROVIDERS = ("openai", "anthropic", "llama", "local")
AUTO = "auto"
LOCAL = ModelRef("local", "local")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+=,-]{0,127}")

_OPEN_MODELS = (
    "llama codellama tinyllama llava mistral mixtral ministral magistral devstral codestral qwen qwq gemma "
    "phi deepseek gpt-oss granite command-r aya olmo smollm yi falcon solar vicuna starcoder stablelm "
    "nemotron hermes zephyr openchat glm kimi minimax ernie exaone orca dolphin jamba "
    "nomic-embed bge mxbai-embed all-minilm snowflake-arctic-embed e5 jina-embeddings"
)
# `openai` also takes `sim…`, the models of the provider simulator. Order matters: `gpt-oss` is an open model.
_FAMILIES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("llama", re.compile("|".join(rf"{family}(?![a-z])" for family in _OPEN_MODELS.split()))),
    ("openai", re.compile(r"gpt-|chatgpt-|o\d+(-|$)|text-embedding-|codex-|ft:|sim(-|$)")),
    ("anthropic", re.compile(r"claude-")),
)


def resolve(name: str, *, auto: ModelRef = LOCAL) -> ModelRef:
    """Which provider serves this name.

    ``provider/name`` is taken at its word, ``auto`` gives the argument ``auto``. A name with another slash,
    such as ``meta-llama/Llama-3.1-8B``, is an open model when its last part belongs to a known family.
    Raises ``ModelUnknown``.
    """
    if name == AUTO:
        return auto
    if name == LOCAL.name:
        return LOCAL
    if not _NAME.fullmatch(name):
        raise ModelUnknown(name)
    provider, slash, rest = name.partition("/")
    if slash and provider in PROVIDERS:
        return _explicit(provider, rest, name)
    return _by_family(name)


def _explicit(provider: str, rest: str, name: str) -> ModelRef:
    if not rest or (provider == LOCAL.provider and rest != LOCAL.name):
        raise ModelUnknown(name)
    return ModelRef(provider, rest)


def _by_family(name: str) -> ModelRef:
    last = name.rpartition("/")[2].lower()
    for provider, family in _FAMILIES:
        # Only open models are published under somebody's name; `x/gpt-4` is nobody's.
        if family.match(last) and (provider == "llama" or "/" not in name):
            return ModelRef(provider, name)
    raise ModelUnknown(name)
