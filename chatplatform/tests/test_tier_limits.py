"""The limits of the tiers, out of one line of text."""

from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured

from chatplatform.settings.limits import tier_limits


def test_tier_limits_are_read_from_one_line() -> None:
    assert tier_limits("free=60/20000/10 pro=600/-/30") == {
        "free": (60, 20000, 10),
        "pro": (600, None, 30),
    }
    assert tier_limits("") == {}


@pytest.mark.parametrize(
    "text", ["free", "free=60", "free=60/1", "free=60/x/1", "free=-1/1/1", "free=1/2/3/4"]
)
def test_tier_limits_that_are_none_stop_the_start(text: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="free=60/20000/10"):
        tier_limits(text)
