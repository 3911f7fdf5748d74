"""The gateway to language models as this installation is configured: one per event loop, warm and pooled."""

from __future__ import annotations

import asyncio
from functools import cache
from weakref import WeakKeyDictionary

from django.conf import settings

from billing import pricing
from chatplatform.api.problem import Code, Problem
from chatplatform.llm import catalog
from chatplatform.llm.config import GatewayConfig
from chatplatform.llm.errors import ModelUnknown
from chatplatform.llm.gateway import Gateway
from chatplatform.llm.types import ModelRef, Timeouts

_gateways: WeakKeyDictionary[asyncio.AbstractEventLoop, Gateway] = WeakKeyDictionary()


@cache
def config() -> GatewayConfig:
    """Keys and addresses out of the settings."""
    return GatewayConfig(
        max_connections=settings.PROVIDER_STREAMS,
        openai_api_key=settings.OPENAI_API_KEY,
        openai_base_url=settings.OPENAI_BASE_URL,
        anthropic_api_key=settings.ANTHROPIC_API_KEY,
        anthropic_base_url=settings.ANTHROPIC_BASE_URL,
        llama_endpoint=settings.LLAMA_API_ENDPOINT,
        llama_api_key=settings.LLAMA_API_KEY,
        local_tokens_per_second=settings.LOCAL_TOKENS_PER_SECOND,
        openai_model=settings.OPENAI_MODEL,
        anthropic_model=settings.ANTHROPIC_MODEL,
        llama_model=settings.LLAMA_MODEL,
        timeouts=Timeouts(settings.FIRST_TOKEN_TIMEOUT, settings.INTER_TOKEN_TIMEOUT, settings.TOTAL_TIMEOUT),
    )


def gateway() -> Gateway:
    """The gateway of the running event loop."""
    loop = asyncio.get_running_loop()
    if loop not in _gateways:
        _gateways[loop] = Gateway(config())
    return _gateways[loop]


def named_model(name: str) -> ModelRef:
    """The model behind a name, usable or not; one that nobody knows has the provider `unknown`."""
    try:
        return catalog.resolve(name, auto=config().auto_model())
    except ModelUnknown:
        return ModelRef("unknown", name)


def checked_model(name: str, allowed: list[str] | None) -> ModelRef:
    """The model behind a name, if a tenant may use it and it has a price.

    Raises Problem: `model_unknown`, `model_not_allowed` or `model_unpriced`.
    """
    try:
        model = catalog.resolve(name, auto=config().auto_model())
    except ModelUnknown as error:
        raise Problem(
            Code.MODEL_UNKNOWN, str(error), errors=[{"field": "model", "message": str(error)}]
        ) from error
    if allowed is not None and not {name, model.name, str(model)} & set(allowed):
        raise Problem(Code.MODEL_NOT_ALLOWED, f"The model {name[:80]!r} is not allowed here.")
    if not pricing.is_priced(model):
        raise Problem(
            Code.MODEL_UNPRICED,
            f"The model {str(model)!r} has no price.",
            errors=[{"field": "model", "message": "has no price"}],
        )
    return model
