"""The arithmetic of prices, and which price is whose; against the package that the list comes from."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import genai_prices
import pytest
from django.utils import timezone
from genai_prices import types
from genai_prices.data import providers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing import pricing
from billing.models import ModelPrice
from billing.models.prices import STAFF
from billing.pricing import UNIT, Price, Prices, Unpriced, charged, exact
from billing.services import price_list
from billing.services.prices import rows_of
from chatplatform import tenancy
from chatplatform.llm.types import ModelRef, Usage

LISTED, LEFT_OUT = price_list.listed()
ROWS = list(rows_of(LISTED))
STEPS = sorted({rates.over_input_tokens for price in LISTED for rates in price.rates} - {0})
DATES = sorted({price.starts for price in LISTED})
HAIKU = ModelRef("anthropic", "claude-haiku-4-5")
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
FOR_DIGITS = "20261121"


def example(name: str) -> str:
    """A name that a pattern of ours matches."""
    for digit in FOR_DIGITS:
        name = name.replace("#", digit, 1)
    return name.replace("*", "-x1")


def in_the_package(provider: str, name: str) -> types.ModelPrice | None:
    """What the package says of a name, for tokens of text."""
    models = next(one for one in providers if one.id == provider).models
    found = next((model.get_prices(NOW) for model in models if model.is_match(name)), None)
    return found if found and found.input_mtok is not None else None


NAMES = sorted(
    {
        (price.provider, example(name))
        for price in LISTED
        if price.source == price_list.SOURCE
        for name in price.names
    }
)
AT = {date: Prices(ROWS, date) for date in [*DATES, NOW]}
calmly = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine, too
money = st.decimals(0, 10_000, places=9)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """Any usage, often near a length at which a price changes."""
    near = st.sampled_from(STEPS).flatmap(lambda step: st.integers(step - 1, step + 1))
    total = draw(st.one_of(st.integers(0, 2_000_000), near))
    cached = draw(st.integers(0, total))
    return Usage(total, cached, draw(st.integers(0, total - cached)), draw(st.integers(0, 200_000)))


@st.composite
def prices(draw: st.DrawFn) -> Price:
    return Price(uuid4(), *(draw(money) for _ in range(4)))


def package_price(provider: str, name: str, usage: Usage, at: datetime) -> Decimal:
    counted = genai_prices.Usage(
        input_tokens=usage.input_tokens,
        cache_read_tokens=usage.cached_input_tokens,
        cache_write_tokens=usage.cache_write_input_tokens,
        output_tokens=usage.output_tokens,
    )
    found = genai_prices.calc_price(counted, name, provider_id=provider, genai_request_timestamp=at)
    return found.total_price.quantize(UNIT)


def test_nothing_of_the_list_is_left_out() -> None:
    assert LEFT_OUT == []
    chats = {model.id for one in providers if one.id in price_list.PROVIDERS for model in priced(one)}
    assert chats == {price.model for price in LISTED if price.source == price_list.SOURCE}
    assert len(chats) > 100


def priced(provider: types.Provider) -> Iterator[types.ModelInfo]:
    """Its models that charge for tokens of text."""
    for model in provider.models:
        if getattr(model.get_prices(NOW), "input_mtok", None) is not None:
            yield model


@calmly
@given(st.sampled_from(NAMES), usages(), st.sampled_from(sorted(AT)))
def test_every_price_is_that_of_the_package(model: tuple[str, str], usage: Usage, at: datetime) -> None:
    found = AT[at].price(ModelRef(*model), usage.input_tokens)
    assert found.cost(usage) == package_price(*model, usage, at)


def test_every_name_and_date_has_the_price_of_the_package() -> None:
    usage = Usage(300_001, 100_000, 50_000, 1_003)
    for at, prices_then in AT.items():
        for provider, name in NAMES:
            found = prices_then.price(ModelRef(provider, name.upper()), usage.input_tokens).cost(usage)
            assert found == package_price(provider, name, usage, at), (provider, name, at)


def test_every_length_of_prompt_has_the_price_of_the_package() -> None:
    for length in (*STEPS, *(step + 1 for step in STEPS)):
        usage = Usage(length, 10, 10, 1_003)
        for provider, name in NAMES:
            found = AT[NOW].price(ModelRef(provider, name), length).cost(usage)
            assert found == package_price(provider, name, usage, NOW), (provider, name, length)


@calmly
@given(st.sampled_from(NAMES), st.text("abcdefgh0123456789-.:", max_size=6), st.integers(0, 40))
def test_a_name_that_the_package_does_not_know_has_no_price(
    model: tuple[str, str], more: str, at: int
) -> None:
    provider, name = model
    name = name[:at] + more + name[at:]
    if name == "sim" or name.startswith("sim-"):
        return
    known = in_the_package(provider, name)
    try:
        found = AT[NOW].price(ModelRef(provider, name))
    except Unpriced:
        assert known is None, name
    else:
        assert known is not None, name
        assert found.output == base(known.output_mtok)


def base(price: Decimal | types.TieredPrices | None) -> Decimal:
    return price.base if isinstance(price, types.TieredPrices) else price or Decimal(0)


# --- Arithmetic ----------------------------------------------------------------------------------------------------
@calmly
@given(prices(), usages())
def test_a_cost_is_exact_to_what_is_written_down(price: Price, usage: Usage) -> None:
    cost = price.cost(usage)
    plain = usage.input_tokens - usage.cached_input_tokens - usage.cache_write_input_tokens
    counts = plain, usage.cached_input_tokens, usage.cache_write_input_tokens, usage.output_tokens
    kinds = price.input, price.cached_input, price.cache_write, price.output
    # In whole numbers: billionths of a dollar for a million tokens, times tokens.
    whole = sum(int(kind.scaleb(9)) * count for kind, count in zip(kinds, counts, strict=True))
    assert abs(int(cost.scaleb(9)) * 1_000_000 - whole) <= 500_000
    assert cost.as_tuple().exponent == -9


@calmly
@given(st.sampled_from(NAMES), st.lists(usages(), max_size=20))
def test_the_cost_of_a_sum_is_the_sum_of_the_costs(model: tuple[str, str], many: list[Usage]) -> None:
    """True of each price of the list: it has three decimals, so that nothing is ever rounded."""
    price = AT[NOW].price(ModelRef(*model))
    total = sum(many, Usage())
    assert price.cost(total) == sum((price.cost(usage) for usage in many), Decimal(0))


@calmly
@given(prices(), usages(), st.integers(0, 100_000), st.integers(0, 100_000))
def test_no_usage_costs_more_than_the_worst_case(price: Price, usage: Usage, more: int, longer: int) -> None:
    worst = price.worst(usage.input_tokens + more, usage.output_tokens + longer)
    assert price.cost(usage) <= worst
    assert worst.as_tuple().exponent == -9


@calmly
@given(prices(), usages(), st.decimals(0, 9999, places=3))
def test_what_is_charged_for_the_worst_case_covers_what_is_charged(
    price: Price, usage: Usage, markup: Decimal
) -> None:
    cost = price.cost(usage)
    assert (
        cost <= charged(cost, markup) <= charged(price.worst(usage.input_tokens, usage.output_tokens), markup)
    )
    assert charged(cost, Decimal(0)) == cost


def test_a_markup_is_on_top() -> None:
    assert charged(Decimal("0.000123456"), Decimal("12.5")) == Decimal("0.000138888")
    assert charged(Decimal(2), Decimal(50)) == Decimal(3)


def test_halves_are_rounded_to_even_and_the_worst_case_up() -> None:
    price = Price(uuid4(), *[Decimal("0.0005")] * 4)  # half of the smallest amount for each token
    assert [price.cost(Usage(tokens)) for tokens in (1, 2, 3)] == [
        exact(Decimal(n).scaleb(-9)) for n in (0, 1, 2)
    ]
    assert price.worst(1, 0) == UNIT


def test_money_is_never_a_float() -> None:
    for price in LISTED:
        for rates in price.rates:
            kinds = rates.input_price, rates.cached_input_price, rates.cache_write_price, rates.output_price
            assert all(type(kind) is Decimal for kind in kinds)
    with pytest.raises(TypeError):
        charged(0.1, Decimal(10))  # type: ignore[arg-type]


# --- Which price is whose ------------------------------------------------------------------------------------------
def row(model: str, output: int, **more: Any) -> ModelPrice:
    """A price of staff's for a model of OpenAI's, unless `more` says otherwise."""
    values = {
        "valid_from": NOW - timedelta(days=9),
        "source": STAFF,
        "author": "kim",
        "provider": "openai",
        **more,
    }
    values.setdefault("created_at", values["valid_from"])
    plain = dict.fromkeys(("input_price", "cached_input_price", "cache_write_price"), Decimal(1))
    return ModelPrice(model=model, output_price=Decimal(output), **plain, **values)


def output(rows: list[ModelPrice], name: str, tokens: int = 0, at: datetime = NOW) -> Decimal:
    return Prices(rows, at).price(ModelRef("openai", name), tokens).output


def test_what_says_more_about_a_name_wins() -> None:
    rows = [row("*", 1), row("gpt-*", 2), row("gpt-4*", 3), row("gpt-4o", 4), row("gpt-4o-####-##-##", 5)]
    found = [
        output(rows, name) for name in ("x", "gpt-3", "gpt-4x", "GPT-4o", "gpt-4o-2026-01-31", "gpt-4o-mini")
    ]
    assert found == [1, 2, 3, 4, 5, 3]
    assert [output(rows[::-1], name) for name in ("gpt-4o", "gpt-3")] == [4, 2]


def test_a_model_of_this_very_name_comes_before_another_that_is_also_called_so() -> None:
    rows = [row("b", 1, names=["a", "b"]), row("a", 2, names=["a"])]
    assert output(rows, "a") == output(rows[::-1], "a") == 2


def test_a_price_without_names_is_for_its_model_alone() -> None:
    assert output([row("gpt-x", 7, names=[])], "gpt-x") == 7
    with pytest.raises(Unpriced):
        output([row("gpt-x", 7)], "gpt-xx")


def test_what_is_no_pattern_is_taken_at_its_word() -> None:
    with pytest.raises(Unpriced):
        output([row("gpt-4.1*", 1)], "gpt-411")


def test_longer_prompts_have_their_own_price() -> None:
    rows = [row("m", 1), row("m", 2, over_input_tokens=100), row("m", 3, over_input_tokens=200)]
    for some in (rows, rows[::-1]):
        assert [output(some, "m", tokens) for tokens in (0, 100, 101, 200, 201)] == [1, 1, 2, 2, 3]


def test_a_new_price_replaces_all_steps_of_the_old_one() -> None:
    old = {"valid_from": NOW - timedelta(days=30)}
    rows = [row("m", 1, **old), row("m", 2, over_input_tokens=100, **old), row("m", 5)]
    assert output(rows, "m", 1000) == 5
    assert output(rows, "m", 1000, NOW - timedelta(days=20)) == 2
    with pytest.raises(Unpriced):
        output(rows, "m", 1000, NOW - timedelta(days=31))


def test_a_price_holds_from_its_very_moment_on() -> None:
    rows = [row("m", 1), row("m", 2, valid_from=NOW)]
    assert output(rows, "m") == 2
    assert output(rows, "m", at=NOW - timedelta(microseconds=1)) == 1


def test_a_price_of_staffs_holds_whatever_the_list_says_until_staff_goes_back() -> None:
    days = [NOW - timedelta(days=day) for day in (9, 8, 7, 6, 5)]
    listed = {"source": "genai-prices 1", "author": ""}
    rows = [
        row("m", 1, valid_from=days[0], **listed),
        row("m", 9, valid_from=days[1]),
        row("m", 2, valid_from=days[2], **listed),
        row("m", 3, valid_from=days[3], source="genai-prices 1"),  # kim: back to the list
        row("m", 4, valid_from=days[4], **listed),
    ]
    assert [output(rows, "m", at=day) for day in days] == [1, 9, 9, 3, 4]


def test_providers_are_kept_apart() -> None:
    with pytest.raises(Unpriced):
        Prices([row("*", 1)], NOW).price(ModelRef("anthropic", "claude-x"))


@pytest.mark.parametrize(
    "name", ["local/local", "llama/llama3.1", "openai/sim", "openai/sim-slow", "anthropic/sim-x"]
)
def test_what_runs_here_costs_nothing(name: str) -> None:
    price = AT[NOW].price(ModelRef(*name.split("/")))
    assert price.cost(Usage(1_000_000, 5, 5, 1_000_000)) == 0


@pytest.mark.parametrize(
    "name", ["openai/gpt-99", "openai/simple", "anthropic/gpt-4o", "nobody/gpt-4o", "openai/whisper-1"]
)
def test_what_nobody_knows_has_no_price(name: str) -> None:
    with pytest.raises(Unpriced, match=name):
        AT[NOW].price(ModelRef(*name.split("/")))


def row_of(prices: Prices) -> UUID:
    """The row of Haiku's price."""
    found = prices.price(HAIKU).id
    assert found
    return found


# --- What a process keeps ------------------------------------------------------------------------------------------
@pytest.mark.django_db
def test_a_migrated_database_has_the_prices_of_the_list() -> None:
    model, usage = ModelRef("anthropic", "claude-haiku-5-5"), Usage(120_000, 1000, 50, 300)
    expected = package_price("anthropic", "claude-haiku-5-5", usage, datetime.now(UTC))
    assert pricing.cost(model, usage) == expected > 0
    assert pricing.is_priced(model)
    assert not pricing.is_priced(ModelRef("openai", "gpt-99"))


@pytest.mark.django_db
def test_the_table_is_read_once_and_then_only_asked_whether_it_changed(
    django_assert_num_queries: Any,
) -> None:
    assert pricing._kept.seconds < 5
    first = pricing.current()
    with django_assert_num_queries(0):
        assert pricing.current() is pricing.cached() is first
    pricing.forget()
    assert pricing.cached() is None
    with django_assert_num_queries(1):
        assert pricing.current() is first
    for price, when in (77, "at first"), (78, "a second time in the same transaction"):
        with tenancy.in_platform():
            ModelPrice.objects.filter(pk=row_of(first)).update(output_price=price)
        with django_assert_num_queries(2):
            assert pricing.load().price(HAIKU).output == price, when


@pytest.mark.django_db
def test_a_price_that_begins_to_hold_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    first = pricing.load()
    with tenancy.in_platform():
        row = ModelPrice.objects.get(pk=row_of(first))
        row.pk, row.valid_from, row.output_price = uuid4(), timezone.now() + timedelta(hours=1), Decimal(99)
        row.save(force_insert=True)
    assert pricing.load().price(HAIKU).output != 99
    monkeypatch.setattr("billing.pricing.timezone.now", lambda: row.valid_from)
    assert pricing.load().price(HAIKU).output == 99


@pytest.mark.django_db
async def test_an_event_loop_uses_what_a_thread_loaded_and_never_asks_the_database() -> None:
    loaded = pricing._kept.last(None)
    pricing.forget()
    assert loaded is not None
    assert pricing.current() is loaded
    assert pricing.cached() is None
