"""Providers' exports are read as they are, and compared with the ledger of all tenants."""

from __future__ import annotations

import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from billing import exports
from billing.exports import Unreadable, family
from billing.tests import scene
from billing.tests.scene import called
from billing.vocabulary import EntryKind
from chatplatform import tenancy
from chatplatform.testing.commands import result_of, text_of
from tenants.selectors import TenantState

FIRST, SECOND = 1775001600, 1775088000  # 1 and 2 April 2026
OPENAI_USAGE = {
    "object": "page",
    "data": [
        {
            "object": "bucket",
            "start_time": FIRST,
            "end_time": SECOND,
            "results": [
                {
                    "object": "organization.usage.completions.result",
                    "input_tokens": 1000,
                    "output_tokens": 500,
                    "input_cached_tokens": 800,
                    "num_model_requests": 5,
                    "model": "gpt-5-2025-08-07",
                },
                {"object": "organization.usage.images.result", "images": 7, "model": "painter"},
            ],
        },
        {"object": "bucket", "start_time": SECOND, "end_time": SECOND + 86400, "results": []},
    ],
    "has_more": False,
    "next_page": None,
}
OPENAI_COSTS = {
    "object": "page",
    "data": [
        {
            "object": "bucket",
            "start_time": FIRST,
            "end_time": SECOND,
            "results": [
                {
                    "object": "organization.costs.result",
                    "amount": {"value": value, "currency": "usd"},
                    "line_item": f"gpt-5-2025-08-07, {part}",
                    "project_id": None,
                }
                for part, value in (("input", 0.06), ("cached input", 0.0125), ("output", 1.5))
            ],
        }
    ],
    "has_more": True,
    "next_page": "page_2",
}
OPENAI_USAGE_CSV = """\
start_time,end_time,start_time_iso,end_time_iso,project_id,num_model_requests,model,batch,input_tokens,output_tokens,input_cached_tokens
1775001600,1775088000,2026-04-01T00:00:00+00:00,2026-04-02T00:00:00+00:00,proj_1,5.0,gpt-5-2025-08-07,FALSE,1000.0,500.0,800.0
1775088000,1775174400,2026-04-02T00:00:00+00:00,2026-04-03T00:00:00+00:00,,,,,,,
"""
OPENAI_COSTS_CSV = """\
start_time\tend_time\tstart_time_iso\tend_time_iso\tamount_value\tamount_currency\tline_item\tproject_id
1775001600\t1775088000\t2026-04-01T00:00Z\t2026-04-02T00:00Z\t1.5725000000000000\tusd\tgpt-5-2025-08-07, output\t
1775088000\t1775174400\t2026-04-02T00:00:00+00:00\t2026-04-03T00:00:00+00:00\t\t\t\t
"""
ANTHROPIC_USAGE = {
    "data": [
        {
            "starting_at": "2026-04-01T00:00:00Z",
            "ending_at": "2026-04-02T00:00:00Z",
            "results": [
                {
                    "uncached_input_tokens": 1500,
                    "cache_creation": {"ephemeral_1h_input_tokens": 1000, "ephemeral_5m_input_tokens": 500},
                    "cache_read_input_tokens": 200,
                    "output_tokens": 500,
                    "model": "claude-sonnet-4-20250514",
                }
            ],
        }
    ],
    "has_more": False,
}
ANTHROPIC_COSTS = {
    "data": [
        {
            "starting_at": "2026-04-01T00:00:00Z",
            "ending_at": "2026-04-02T00:00:00Z",
            "results": [
                {
                    "currency": "USD",
                    "amount": "123.78912",
                    "model": "claude-sonnet-4-20250514",
                    "token_type": "output_tokens",
                }
            ],
        }
    ],
    "has_more": False,
}
ANTHROPIC_USAGE_CSV = """\
usage_date_utc,model_version,api_key,workspace,usage_type,context_window,usage_input_tokens_no_cache,usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,usage_output_tokens,web_search_count,inference_geo,speed
2026-04-01,claude-sonnet-4-20250514,key,Default,standard,≤ 200k,1500,500,1000,200,500,0,not_available,
"""
ANTHROPIC_COSTS_CSV = """\
usage_date_utc,model,workspace,api_key,usage_type,context_window,token_type,cost_usd,list_price_usd,cost_type,inference_geo,speed
2026-04-01,Claude Sonnet 4,Default,key,message,≤ 200k,input_no_cache,0.05,0.05,token,not_available,
2026-04-01,Claude Sonnet 4,Default,key,message,≤ 200k,output,1.19,1.19,token,not_available,
"""


# --- Reading ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("provider", "export", "expected"),
    [
        ("openai", OPENAI_USAGE, ("gpt-5", 1000, 500, None)),
        ("openai", OPENAI_COSTS, ("gpt-5", None, None, "1.5725")),
        ("openai", OPENAI_USAGE_CSV, ("gpt-5", 1000, 500, None)),
        ("openai", OPENAI_COSTS_CSV, ("gpt-5", None, None, "1.5725")),
        ("anthropic", ANTHROPIC_USAGE, ("claude-sonnet-4", 3200, 500, None)),
        ("anthropic", ANTHROPIC_COSTS, ("claude-sonnet-4", None, None, "1.2378912")),
        ("anthropic", ANTHROPIC_USAGE_CSV, ("claude-sonnet-4", 3200, 500, None)),
        ("anthropic", ANTHROPIC_COSTS_CSV, ("claude-sonnet-4", None, None, "1.24")),
    ],
    ids=[
        "openai usage",
        "openai costs",
        "csv",
        "costs csv",
        "anthropic usage",
        "anthropic costs",
        "csv",
        "costs csv",
    ],
)
def test_each_export_is_read(provider: str, export: Any, expected: tuple[Any, ...]) -> None:
    text = export if isinstance(export, str) else json.dumps(export)
    read = exports.read(provider, "\ufeff" + text)
    assert {row.day for row in read.rows} == {date(2026, 4, 1)} and min(read.days) == date(2026, 4, 1)
    model, tokens_in, tokens_out, usd = expected
    assert {family(row.model) for row in read.rows} == {model}
    if usd:
        assert sum(row.usd or 0 for row in read.rows) == Decimal(usd)
    else:
        assert [(row.input_tokens, row.output_tokens) for row in read.rows] == [(tokens_in, tokens_out)]


def test_all_pages_are_one_export() -> None:
    last = {**OPENAI_COSTS, "has_more": False}
    read = exports.read("openai", json.dumps([OPENAI_COSTS, last]))
    assert len(read.rows) == 6 and read.is_complete
    assert not exports.read("openai", json.dumps(OPENAI_COSTS)).is_complete


@pytest.mark.parametrize(
    ("named", "known"),
    [
        ("gpt-5-2025-08-07", "gpt-5"),
        ("gpt-4.1-mini-2025-04-14", "gpt-4.1-mini"),
        ("gpt-4-0613", "gpt-4"),
        ("claude-sonnet-4-20250514", "claude-sonnet-4"),
        ("Claude Haiku 4.5", "claude-haiku-4-5"),
        ("Claude 3.5 Sonnet 2024-10-22", "claude-3-5-sonnet-latest"),
    ],
)
def test_exports_and_calls_name_the_same_model_differently(named: str, known: str) -> None:
    assert family(named) == family(known)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(sorted(exports.FORMATS)),
    st.text()
    | st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["data", "results", "object", "start_time", "starting_at", "amount"]), inner
            )
        ),
    ).map(json.dumps),
)
@example("openai", "")
@example("anthropic", "usage_date_utc,model_version\n2026-04-01\n")
@example("openai", "start_time,input_tokens\n1,2,3,4\n")
@example("openai", "[" * 100_000)
@example("openai", "start_time\n" + "x" * 200_000)
def test_anything_else_is_refused(provider: str, text: str) -> None:
    try:
        assert exports.read(provider, text).rows == []
    except Unreadable:
        pass


# --- Comparing ----------------------------------------------------------------------------------------------------
@pytest.fixture
def both(acme: TenantState, globex: TenantState) -> tuple[TenantState, TenantState]:
    """What OpenAI's export above says, called by two tenants; and calls that are not part of it."""
    for tenant in (acme, globex):
        scene.tenant(tenant.ref)
        with tenancy.in_tenant(tenant.ref):
            called(input_tokens=500, output_tokens=250, cost_usd=Decimal("0.78625"), model="gpt-5")
            called(input_tokens=9, provider="anthropic", model="gpt-5")
            called(input_tokens=9, started_at=datetime(2026, 4, 3, tzinfo=UTC))
    return acme, globex


@pytest.fixture
def export(tmp_path: Path) -> Path:
    file = tmp_path / "export.json"
    file.write_text(json.dumps(OPENAI_USAGE))
    return file


def reconcile(file: Path, *more: str) -> Any:
    return result_of("reconcile_usage", "--provider", "openai", "--file", str(file), *more)


def test_what_agrees_is_status_0(both: object, export: Path) -> None:
    report = reconcile(export)
    assert (report["first"], report["last"], report["over"]) == ("2026-04-01", "2026-04-02", 0)
    assert [(row["measure"], row["ours"], row["theirs"]) for row in report["rows"]] == [
        ("input_tokens", "1000", "1000"),
        ("output_tokens", "500", "500"),
    ]


def test_dollars_are_compared_with_what_calls_cost_us(both: object, export: Path) -> None:
    export.write_text(OPENAI_COSTS_CSV)
    [row] = reconcile(export)["rows"]
    assert (row["measure"], row["ours"], row["theirs"]) == ("usd", "1.5725", "1.5725")


def test_a_call_counts_on_the_day_it_was_made(both: tuple[TenantState, TenantState], export: Path) -> None:
    with tenancy.in_tenant(both[0].ref):
        called(input_tokens=50, started_at=datetime(2026, 4, 2, 0, 5, tzinfo=UTC))
    with pytest.raises(CommandError, match="1 of the figures"):
        reconcile(export)


def test_what_is_over_the_bound_is_status_1_logged_and_written(
    both: tuple[TenantState, TenantState], export: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with tenancy.in_tenant(both[0].ref):
        called(input_tokens=11, sequence=2, estimated=True)
    out, metrics = io.StringIO(), export.with_name("out.prom")
    command = ["reconcile_usage", "--provider", "openai", "--file", str(export), "--metrics", str(metrics)]
    with pytest.raises(CommandError, match="1 of the figures differ"):
        call_command(*command, stdout=out, stderr=io.StringIO())
    said = out.getvalue()
    assert "1011" in said and "1.09" in said and "500" in said
    assert 'chatplatform_reconciliation_over_bound{provider="openai"} 1.0' in metrics.read_text()
    assert "usage_differs" in caplog.text
    assert "0 over the bound" in text_of(*command, "--bound", "2%")


def test_a_model_that_only_one_side_knows_differs(both: object, export: Path) -> None:
    export.write_text(json.dumps(OPENAI_USAGE).replace("gpt-5-2025-08-07", "gpt-6"))
    with pytest.raises(CommandError, match="4 of the figures"):
        reconcile(export)


def test_embeddings_are_compared_where_the_export_has_them(
    both: tuple[TenantState, TenantState], export: Path
) -> None:
    with tenancy.in_tenant(both[0].ref):
        called(input_tokens=7, model="text-embedding-3-small", kind=EntryKind.EMBEDDING)
    assert len(reconcile(export)["rows"]) == 2, "an export of completions says nothing of them"
    text = (
        json.dumps(OPENAI_USAGE)
        .replace("images.result", "embeddings.result")
        .replace("images", "input_tokens")
    )
    export.write_text(text.replace("painter", "text-embedding-3-small"))
    assert [(row["model"], row["ours"], row["theirs"]) for row in reconcile(export)["rows"]] == [
        ("gpt-5", "1000", "1000"), ("gpt-5", "500", "500"), ("text-embedding-3-small", "7", "7"),
    ]  # fmt: skip
    export.write_text(text)
    with pytest.raises(CommandError, match="2 of the figures"):
        reconcile(export)


def test_an_export_without_models_is_compared_by_day(both: object, export: Path) -> None:
    export.write_text(json.dumps(OPENAI_USAGE).replace('"gpt-5-2025-08-07"', "null"))
    assert [row["model"] for row in reconcile(export)["rows"]] == ["", ""]


def test_a_month_has_days_that_the_export_does_not(both: object, export: Path) -> None:
    with pytest.raises(CommandError, match="1 of the figures"):
        reconcile(export, "--month", "2026-04")


def test_cents_that_a_console_rounds_away_are_no_difference(acme: TenantState, export: Path) -> None:
    scene.tenant(acme.ref)
    export.write_text(ANTHROPIC_COSTS_CSV)
    command = ["reconcile_usage", "--provider", "anthropic", "--file", str(export), "--bound", "0"]
    with tenancy.in_tenant(acme.ref):
        called(cost_usd=Decimal("1.2499"), provider="anthropic", model="claude-sonnet-4-20250514")
        assert result_of(*command)["over"] == 0
        called(cost_usd=Decimal("0.0002"), provider="anthropic", model="claude-sonnet-4")
    with pytest.raises(CommandError):
        result_of(*command)


@pytest.mark.parametrize("bound", ["x", "-1%", "101%"])
def test_a_bound_is_a_share(export: Path, bound: str, db: None) -> None:
    with pytest.raises(CommandError, match="bound"):
        reconcile(export, f"--bound={bound}")


def test_a_file_that_cannot_be_read_is_wrong_usage(tmp_path: Path, db: None) -> None:
    with pytest.raises(CommandError) as refused:
        reconcile(tmp_path / "nothing")
    assert refused.value.returncode == 2
    (tmp_path / "other").write_text("name,age\nann,7\n")
    with pytest.raises(CommandError, match="no usage or cost export"):
        reconcile(tmp_path / "other")
