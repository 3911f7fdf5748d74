"""The usage exports of providers: what they say was used per day (UTC) and model. docs/invoices.md has their shapes."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from billing.vocabulary import EntryKind

Row = Mapping[str, Any]
HALF_A_CENT, HUNDRED = Decimal("0.005"), Decimal(100)
DATED = re.compile(r"-(?:\d{8}|\d{4}-\d{2}-\d{2}|\d{4}|latest)$")
CACHE_WRITES = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
CSV_INPUT = ("no_cache", "cache_write_5m", "cache_write_1h", "cache_read")
OPENAI_USAGE = {
    "organization.usage.completions.result": EntryKind.CALL,
    "organization.usage.embeddings.result": EntryKind.EMBEDDING,
}


class Unreadable(ValueError):
    """It is no export that we know."""


@dataclass(frozen=True, slots=True)
class Used:
    """What an export says about a model on a day; `slack` is how far its dollars may be rounded. `kind` is what it is
    about, where an export is about that alone."""

    day: date
    model: str
    input_tokens: int | None = None  # cached ones and those written to the cache are among them
    output_tokens: int | None = None
    usd: Decimal | None = None
    slack: Decimal = Decimal(0)
    kind: EntryKind | None = None


@dataclass(frozen=True, slots=True)
class Export:
    """All that an export says. `days` are those it covers, also where nothing was used."""

    rows: list[Used]
    days: set[date]
    is_complete: bool = True

    @property
    def kinds(self) -> set[EntryKind]:
        """Which entries of the ledger it is about: those that it names, or all."""
        return {row.kind for row in self.rows if row.kind} or set(EntryKind)


def read(provider: str, text: str) -> Export:
    """An export of a provider's usage or costs, JSON or CSV. Raises Unreadable."""
    text = text.removeprefix("\ufeff").strip()
    parse = FORMATS[provider][0 if text[:1] in ("{", "[") else 1]
    try:
        return parse(text)
    except (
        LookupError,
        csv.Error,
        TypeError,
        AttributeError,
        ValueError,
        InvalidOperation,
        OverflowError,
        RecursionError,
    ) as error:
        raise Unreadable(f"This is no usage or cost export of {provider} that is known here.") from error


def family(model: str) -> str:
    """A model's name without its date, as `gpt-5` for `gpt-5-2025-08-07`: exports name what calls do not."""
    return DATED.sub("", re.sub(r"[\s._]+", "-", model.strip().lower()))


# --- JSON: pages of buckets of results ---------------------------------------------------------------------------
def _pages(
    text: str, start: Callable[[Row], date], read_result: Callable[[date, Row], Used | None]
) -> Export:
    found = json.loads(text, parse_float=Decimal)
    pages = found if isinstance(found, list) else [found]
    rows: list[Used] = []
    days: set[date] = set()
    for page in pages:
        for bucket in page["data"]:
            day = start(bucket)
            days.add(day)
            results = bucket["results"] if "results" in bucket else bucket["result"]
            rows += filter(None, (read_result(day, result) for result in results))
    return Export(rows, days, is_complete=not pages[-1].get("has_more"))


def _openai_json(text: str) -> Export:
    return _pages(text, lambda bucket: _unix_day(bucket["start_time"]), _openai_result)


def _openai_result(day: date, result: Row) -> Used | None:
    kind = result["object"]
    if kind == "organization.costs.result":
        amount = result["amount"]["value"]
        return Used(day, _line_item(result.get("line_item")), usd=Decimal(amount))
    if kind not in OPENAI_USAGE:
        return None  # images, speech, …: they are not in the ledger
    tokens = int(result["input_tokens"]), int(result.get("output_tokens") or 0)
    return Used(day, result.get("model") or "", *tokens, kind=OPENAI_USAGE[kind])


def _anthropic_json(text: str) -> Export:
    return _pages(
        text, lambda bucket: datetime.fromisoformat(bucket["starting_at"]).date(), _anthropic_result
    )


def _anthropic_result(day: date, result: Row) -> Used:
    model = result.get("model") or ""
    if "amount" in result:
        return Used(day, model, usd=Decimal(result["amount"]) / HUNDRED)  # it is in cents
    written = result.get("cache_creation") or {}
    tokens = int(result["uncached_input_tokens"]) + int(result.get("cache_read_input_tokens") or 0)
    tokens += sum(int(written.get(name) or 0) for name in CACHE_WRITES)
    return Used(day, model, tokens, int(result["output_tokens"]))


# --- CSV ---------------------------------------------------------------------------------------------------------
def _table(text: str, read_row: Callable[[Row], tuple[date, Used | None]]) -> Export:
    head = text.partition("\n")[0]
    rows: list[Used] = []
    days: set[date] = set()
    for line in _lines(text, "\t" if "\t" in head else ","):
        day, used = read_row(line)
        days.add(day)
        if used:
            rows.append(used)
    if not days:
        raise Unreadable("There is nothing in this export.")
    return Export(rows, days)


def _lines(text: str, delimiter: str) -> Iterator[Row]:
    for line in csv.DictReader(io.StringIO(text), delimiter=delimiter):
        yield {(name or "").strip(): (value or "") for name, value in line.items() if isinstance(name, str)}


def _openai_csv(text: str) -> Export:
    return _table(text, _openai_row)


def _openai_row(row: Row) -> tuple[date, Used | None]:
    day = _unix_day(row["start_time"])
    if "amount_value" in row:
        amount = row["amount_value"]  # a day without costs has an empty row
        return day, Used(day, _line_item(row["line_item"]), usd=Decimal(amount)) if amount else None
    tokens = _whole(row["input_tokens"]), _whole(row["output_tokens"])
    return day, Used(day, row["model"], *tokens, kind=EntryKind.CALL) if any(tokens) else None


def _anthropic_csv(text: str) -> Export:
    return _table(text, _anthropic_row)


def _anthropic_row(row: Row) -> tuple[date, Used | None]:
    day = date.fromisoformat(row["usage_date_utc"][:10])
    if "cost_usd" in row:
        usd = Decimal(row["cost_usd"] or 0)
        return day, Used(day, row["model"], usd=usd, slack=HALF_A_CENT)  # the console rounds to cents
    tokens = sum(_whole(row.get(f"usage_input_tokens_{part}", "")) for part in CSV_INPUT)
    return day, Used(day, row["model_version"], tokens, _whole(row["usage_output_tokens"]))


def _unix_day(seconds: Any) -> date:
    return datetime.fromtimestamp(int(Decimal(seconds)), UTC).date()


def _whole(number: str) -> int:
    return int(Decimal(number.replace(",", "") or 0))


def _line_item(name: str | None) -> str:
    """The model of a line of OpenAI's costs, such as `gpt-5-2025-08-07, cached input`."""
    return (name or "").partition(",")[0]


FORMATS: dict[str, tuple[Callable[[str], Export], Callable[[str], Export]]] = {
    "openai": (_openai_json, _openai_csv),
    "anthropic": (_anthropic_json, _anthropic_csv),
}
