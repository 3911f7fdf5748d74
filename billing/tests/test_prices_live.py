"""A price that changes, as other processes see it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from decimal import Decimal

import pytest

from billing.models import ModelPrice
from billing.services import prices
from billing.services.price_list import Rates
from chatplatform import tenancy
from chatplatform.testing.clients import Caller
from tenants import control

pytestmark = pytest.mark.processes
MODEL = "gpt-99-of-a-test"
PROMISE = 5.0  # s


@pytest.fixture
def no_price(committed: None) -> Iterator[None]:
    """Leaves no price of the model behind."""
    yield
    with tenancy.in_platform():
        ModelPrice.objects.filter(model=MODEL).delete()
    control.publish(prices.CHANGED)


def test_a_new_price_is_in_force_in_the_web_server_within_five_seconds(
    no_price: None, acme_api: Caller
) -> None:
    refused = acme_api.post("/conversations", {"model": MODEL})
    assert (refused.status_code, refused.json()["code"]) == (422, "model_unpriced")
    prices.override("openai", MODEL, [Rates(0, *[Decimal(1)] * 4)], reason="A test", author="kim")
    deadline = time.monotonic() + PROMISE
    while (answer := acme_api.post("/conversations", {"model": MODEL})).status_code != 201:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.1)
