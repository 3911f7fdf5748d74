"""`manage.py show_usage`."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.core.management import CommandError

from chatplatform.testing.commands import result_of
from tenants.selectors import TenantState


def test_show_usage_is_the_usage_document_of_this_month(acme: TenantState) -> None:
    usage = result_of("show_usage", "acme")
    assert (usage["tenant"], usage["tokens_used"]) == ("acme", 0)
    assert usage["period"] == f"{datetime.now(UTC):%Y-%m}"
    assert usage["budget"]["limit"] is None


def test_show_usage_takes_a_month(acme: TenantState) -> None:
    assert result_of("show_usage", "acme", "--month", "2026-02")["period"] == "2026-02"


@pytest.mark.parametrize("month", ["2026-13", "2026", "2026-2", "0000-01", "9999-12", "²026-01", "soon"])
def test_what_is_no_month_is_wrong_usage(acme: TenantState, month: str) -> None:
    with pytest.raises(CommandError, match="is not a month"):
        result_of("show_usage", "acme", "--month", month)


def test_show_usage_of_nobody_is_one_clear_line(acme: TenantState) -> None:
    with pytest.raises(CommandError, match=r"^There is no such tenant\.$"):
        result_of("show_usage", "umbrella")
