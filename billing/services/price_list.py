"""The prices that the package `genai-prices` has for OpenAI and Anthropic, and our own: what runs here is free."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time
from decimal import Decimal
from importlib.metadata import version

from genai_prices import types
from genai_prices.data import providers

PROVIDERS = ("openai", "anthropic")
SOURCE = f"genai-prices {version('genai-prices')}"
OURS = "chatplatform"
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)  # a price without a date holds since ever
SIMULATED = ("sim", "sim-*")  # the provider simulator's models
DIGITS = re.compile(r"\\d\{(\d+)\}")
CHOICE = re.compile(r"\[([^\]]+)\]")
PLAIN = re.compile(r"[a-z0-9.:@#-]+")


@dataclass(frozen=True, slots=True)
class Rates:
    """US dollars for a million tokens, in a prompt longer than `over_input_tokens`."""

    over_input_tokens: int
    input_price: Decimal
    cached_input_price: Decimal
    cache_write_price: Decimal
    output_price: Decimal


@dataclass(frozen=True, slots=True)
class Listed:
    """A model's price from a moment on, with its steps for longer prompts."""

    provider: str
    model: str
    names: tuple[str, ...]
    starts: datetime
    rates: tuple[Rates, ...]
    source: str = SOURCE


class NotUnderstood(ValueError):
    """The package says something about a model that our table cannot say."""


def listed() -> tuple[list[Listed], list[str]]:
    """Every price of text models, by model and then by date; and what was left out because we cannot express it."""
    prices, left_out = list(ours()), []
    for provider in providers:
        if provider.id not in PROVIDERS:
            continue
        for model in provider.models:
            try:
                prices += _of_model(provider.id, model)
            except NotUnderstood as error:
                left_out.append(f"{provider.id}/{model.id}: {error}")
    return prices, left_out


def ours() -> Iterator[Listed]:
    """What costs nothing until staff says otherwise: the built-in model, Llama endpoints, the simulator."""
    free = (Rates(0, *[Decimal(0)] * 4),)
    for provider in ("local", "llama"):
        yield Listed(provider, "*", ("*",), BEGINNING, free, OURS)
    for provider in PROVIDERS:
        yield Listed(provider, SIMULATED[0], SIMULATED, BEGINNING, free, OURS)


def _of_model(provider: str, model: types.ModelInfo) -> Iterator[Listed]:
    prices = model.prices
    conditional = [types.ConditionalPrice(prices=prices)] if isinstance(prices, types.ModelPrice) else prices
    priced = [one for one in conditional if one.prices.input_mtok is not None]
    if not priced:
        return  # sound, pictures, moderation: not a thing that a chat can ask
    names = tuple(dict.fromkeys(_names(model.match)))
    for one in priced:
        yield Listed(provider, model.id, names, _starts(one.constraint), tuple(_rates(one.prices)))


def _starts(constraint: types.StartDateConstraint | types.TimeOfDateConstraint | None) -> datetime:
    if constraint is None:
        return BEGINNING
    if isinstance(constraint, types.StartDateConstraint):
        return datetime.combine(constraint.start_date, time(), UTC)
    raise NotUnderstood("its price depends on the time of day")


def _rates(prices: types.ModelPrice) -> Iterator[Rates]:
    """What has no price of its own is charged as plain input; embeddings have no output."""
    cached = [prices.cache_read_mtok, prices.cache_write_mtok]
    plain = prices.input_mtok
    kinds = [plain, *(plain if kind is None else kind for kind in cached), prices.output_mtok]
    tiers = (kind.tiers for kind in kinds if isinstance(kind, types.TieredPrices))
    for over in sorted({0, *(tier.start for steps in tiers for tier in steps)}):
        yield Rates(over, *(_step(kind, over) for kind in kinds))


def _step(price: Decimal | types.TieredPrices | None, over: int) -> Decimal:
    if price is None:
        return Decimal(0)
    if isinstance(price, Decimal):
        return price
    return next((tier.price for tier in reversed(price.tiers) if tier.start <= over), price.base)


def _names(match: types.MatchLogic) -> Iterable[str]:
    """The names that a rule of the package matches, in our way of writing them."""
    match match:
        case types.ClauseOr():
            return [name for clause in match.or_ for name in _names(clause)]
        case types.ClauseEquals():
            return [match.equals.lower()]
        case types.ClauseStartsWith():
            return [f"{match.starts_with.lower()}*"]
        case types.ClauseContains():
            return [f"*{match.contains.lower()}*"]
        case types.ClauseRegex():
            return _spelled_out(match.regex)
    raise NotUnderstood("its names are not a list of alternatives")


def _spelled_out(regex: str) -> list[str]:
    """`^gpt-6\\.1-\\d{4}$` is `gpt-6.1-####`, and `[-@]` makes two names of one."""
    if not (regex.startswith("^") and regex.endswith("$")):
        raise NotUnderstood(f"its names are {regex}")
    name = DIGITS.sub(lambda found: "#" * int(found[1]), regex[1:-1]).replace(r"\.", ".")
    choice = CHOICE.search(name)
    names = [CHOICE.sub(letter, name, count=1) for letter in choice[1]] if choice else [name]
    if not all(PLAIN.fullmatch(one) for one in names):
        raise NotUnderstood(f"its names are {regex}")
    return names
