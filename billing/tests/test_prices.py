"""The table against the list, and prices of staff's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from billing import pricing
from billing.models import ModelPrice
from billing.pricing import Prices
from billing.services import price_list, prices
from billing.services.price_list import SOURCE, Listed, Rates
from chatplatform import tenancy
from chatplatform.api.problem import Problem
from chatplatform.llm.types import ModelRef
from chatplatform.testing.commands import result_of, text_of

pytestmark = pytest.mark.django_db

HAIKU = ModelRef("anthropic", "claude-haiku-5-5")
O1 = ModelRef("openai", "o1")
DEAR = [Rates(0, *[Decimal(99)] * 4)]
Change = Callable[[Callable[[Listed], Listed | None]], None]


@pytest.fixture
def the_list(monkeypatch: pytest.MonkeyPatch) -> Change:
    """Lets the package say something else: each price goes through a function, which may drop it."""

    def change(each: Callable[[Listed], Listed | None]) -> None:
        listed = [new for price in price_list.listed()[0] if (new := each(price))]
        monkeypatch.setattr(price_list, "listed", lambda: (listed, []))

    return change


def count() -> int:
    with tenancy.in_platform():
        return ModelPrice.objects.count()


def output(model: ModelRef, at: datetime | None = None) -> Decimal:
    with tenancy.in_platform():
        return Prices(ModelPrice.objects.all(), at or timezone.now()).price(model).output


def override(model: ModelRef = HAIKU, rates: list[Rates] = DEAR, starts: datetime | None = None) -> None:
    prices.override(
        model.provider,
        model.name,
        rates,
        reason="a contract",
        author="kim",
        names=[model.name],
        starts=starts,
    )


def dearer(price: Listed) -> Listed:
    return replace(price, rates=tuple(replace(one, output_price=one.output_price + 7) for one in price.rates))


def test_the_first_seeding_has_the_lists_own_dates_and_a_second_changes_nothing() -> None:
    with tenancy.in_platform():
        starts = set(ModelPrice.objects.values_list("valid_from", flat=True))
        assert starts == {price.starts for price in price_list.listed()[0]}
        assert set(ModelPrice.objects.values_list("source", flat=True)) == {SOURCE, price_list.OURS}
    before = count()
    assert prices.update().written == []
    prices.seed()
    assert count() == before


def test_a_price_that_the_list_changed_is_written_from_now_on(the_list: Change) -> None:
    old, before = output(O1), timezone.now()
    the_list(lambda price: dearer(price) if price.model == "o1" else price)
    written = prices.update().written
    assert [(price.model, price.source) for price in written] == [("o1", SOURCE)]
    assert written[0].starts > before
    assert output(O1) == pricing.price(O1).output == old + 7
    assert output(O1, before) == old
    assert prices.update().written == []


def test_a_new_name_of_a_model_is_a_change_as_well(the_list: Change) -> None:
    the_list(lambda price: replace(price, names=(*price.names, "o1-new")) if price.model == "o1" else price)
    prices.update()
    assert output(ModelRef("openai", "o1-new")) == output(O1)


def test_a_model_that_is_new_to_the_table_has_the_lists_dates() -> None:
    with tenancy.in_platform():
        ModelPrice.objects.filter(model="o3").delete()
    written = prices.update().written
    assert [price.starts.year for price in written] == [1970, 2025]


def test_a_price_that_is_announced_begins_at_its_moment(the_list: Change) -> None:
    moment = timezone.now() + timedelta(days=40)
    old = output(O1)
    listed, _ = price_list.listed()
    announced = [replace(dearer(price), starts=moment) for price in listed if price.model == "o1"]
    the_list(lambda price: price)
    price_list.listed()[0].extend(announced)
    assert [price.starts for price in prices.update().written] == [moment]
    assert output(O1) == old
    assert output(O1, moment) == old + 7
    assert prices.update().written == []
    # Then the provider thinks better of it, in the next version of the list. The row stays; one after it says so.
    the_list(lambda price: replace(price, source="next") if price.starts != moment else None)
    assert [price.starts for price in prices.update().written] == [moment]
    assert output(O1, moment + timedelta(days=1)) == old
    assert prices.update().written == []


def test_a_model_that_left_the_list_keeps_its_price(the_list: Change) -> None:
    old = output(O1)
    the_list(lambda price: None if price.model == "o1" else price)
    found = prices.update()
    assert (found.written, found.no_longer_listed) == ([], ["openai/o1"])
    assert output(O1) == old


def test_a_dry_run_writes_nothing(the_list: Change) -> None:
    the_list(lambda price: dearer(price) if price.model == "o1" else price)
    before = count()
    assert len(prices.update(dry_run=True).written) == 1
    assert count() == before


def test_a_price_of_staffs_holds_until_staff_goes_back(the_list: Change) -> None:
    listed = output(HAIKU)
    override()
    assert output(HAIKU) == pricing.price(HAIKU).output == 99
    the_list(lambda price: dearer(price) if price.model == HAIKU.name else price)
    assert prices.update().held_back == [str(HAIKU)]
    assert output(HAIKU) == 99
    prices.back_to_list(*str(HAIKU).split("/"), reason="it is over", author="kim")
    assert output(HAIKU) == listed + 7
    assert len(pricing.load().version(HAIKU).steps) == 2
    assert prices.update().written == []
    with tenancy.in_platform():
        last = ModelPrice.objects.filter(model=HAIKU.name).order_by("valid_from").last()
    assert last is not None
    assert (last.source, last.reason, last.author) == (SOURCE, "it is over", "kim")


def test_a_price_of_ours_can_begin_later_and_going_back_takes_away_what_was_to_come() -> None:
    tomorrow = timezone.now() + timedelta(days=1)
    listed = output(HAIKU)
    override(starts=tomorrow)
    assert output(HAIKU) == listed
    assert output(HAIKU, tomorrow) == 99
    prices.back_to_list(*str(HAIKU).split("/"), reason="it is over", author="kim")
    assert output(HAIKU, tomorrow) == listed


def test_what_runs_here_can_be_given_a_price() -> None:
    prices.override("openai", "sim", DEAR, reason="to see it", author="kim", names=price_list.SIMULATED)
    assert output(ModelRef("openai", "sim-slow")) == 99
    prices.update()
    assert output(ModelRef("openai", "sim-slow")) == 99
    prices.back_to_list("openai", "sim", reason="seen", author="kim")
    assert output(ModelRef("openai", "sim-slow")) == 0


def test_a_model_of_nobodys_can_be_given_a_price() -> None:
    model = ModelRef("openai", "gpt-99")
    assert not pricing.is_priced(model)
    override(model)
    assert pricing.is_priced(model)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"reason": " "}, "reason"),
        ({"author": ""}, "reason"),
        ({"starts": datetime(2026, 1, 1, tzinfo=timezone.get_default_timezone())}, "starts"),
    ],
)
def test_an_override_wants_a_reason_and_a_moment_to_come(change: dict[str, Any], field: str) -> None:
    values: dict[str, Any] = {"reason": "a contract", "author": "kim", "starts": None, **change}
    before = count()
    with pytest.raises(Problem) as refused:
        prices.override("openai", "o1", DEAR, **values)
    assert refused.value.more["errors"][0]["field"] == field
    assert count() == before


def test_two_prices_of_ours_cannot_begin_at_one_moment() -> None:
    tomorrow = timezone.now() + timedelta(days=1)
    override(starts=tomorrow)
    with pytest.raises(Problem):
        override(starts=tomorrow)


def test_there_is_no_way_back_without_a_price_of_ours_or_a_list_that_has_one() -> None:
    with pytest.raises(Problem):
        prices.back_to_list("openai", "o1", reason="why not", author="kim")
    override(ModelRef("openai", "gpt-99"))
    with pytest.raises(Problem):
        prices.back_to_list("openai", "gpt-99", reason="why not", author="kim")


def test_the_command_says_what_it_wrote(the_list: Change) -> None:
    the_list(lambda price: dearer(price) if price.model == "o1" else price)
    row = result_of("update_prices", "--dry-run")["written"][0]
    assert (row["provider"], row["model"], row["prompts_over"], row["output"]) == ("openai", "o1", 0, "67")
    assert "Written from genai-prices" in text_of("update_prices")
    assert text_of("update_prices").startswith("The table says what")
