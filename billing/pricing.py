"""What a call costs, in exact US dollars. Prices come from `genai-prices`; unknown is refused."""

from __future__ import annotations

from decimal import Decimal

import genai_prices

from chatplatform.llm.types import ModelRef, Usage

FREE_PROVIDERS = frozenset({"local", "llama"})
NOTHING = Decimal(0)
SIMULATED = "sim"  # the provider simulator's models


class Unpriced(LookupError):
    """There is no price for this model."""


def cost(model: ModelRef, usage: Usage) -> Decimal:
    """The price of one call in US dollars. Raises Unpriced."""
    if _is_free(model):
        return NOTHING
    counted = genai_prices.Usage(
        input_tokens=usage.input_tokens,
        cache_read_tokens=usage.cached_input_tokens,
        cache_write_tokens=usage.cache_write_input_tokens,
        output_tokens=usage.output_tokens,
    )
    try:
        return genai_prices.calc_price(counted, model_ref=model.name, provider_id=model.provider).total_price
    except LookupError as error:
        raise Unpriced(str(model)) from error


def is_priced(model: ModelRef) -> bool:
    """Whether calls to this model can be charged."""
    try:
        cost(model, Usage())
    except Unpriced:
        return False
    return True


def _is_free(model: ModelRef) -> bool:
    simulated = model.name == SIMULATED or model.name.startswith(f"{SIMULATED}-")
    return model.provider in FREE_PROVIDERS or simulated
