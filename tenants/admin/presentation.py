"""How configuration is grouped, named and shown to people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from tenants.differences import Change, Piece
from tenants.models import ConfigurationVersion
from tenants.models.configuration import FIELDS, LIMITS

_GROUPED = {
    "Prompt": ("system_prompt", "greeting"),
    "Models": (
        "primary_model",
        "fallback_model",
        "degrade_to_local",
        "allowed_models",
        "temperature",
        "max_tokens_per_response",
    ),
    "Limits": ("requests_per_minute", "tokens_per_minute", "user_requests_per_minute"),
    "Budgets": (
        "monthly_token_budget",
        "monthly_cost_budget_usd",
        "daily_cost_budget_usd",
        "conversation_cost_budget_usd",
        "user_monthly_cost_budget_usd",
    ),
    "Tools and topics": ("allowed_tools", "blocked_topics"),
    "Widget and people": ("allow_anonymous", "widget_origins", "escalation_email"),
    "Cache": ("cache_enabled", "semantic_cache_threshold"),
}
_ELSE = tuple(name for name in FIELDS if not any(name in group for group in _GROUPED.values()))
# A field that a later capability adds shows up without being named here.
GROUPS: dict[str, tuple[str, ...]] = {**_GROUPED, **({"More": _ELSE} if _ELSE else {})}
NOTHING = {
    "allowed_models": "Every model with a price",
    "fallback_model": "None",
    "temperature": "The model’s own",
    "allowed_tools": "None",
    "blocked_topics": "None",
    "widget_origins": "Its own hosts only",
    "escalation_email": "Nobody is mailed",
}


@dataclass(frozen=True, slots=True)
class Shown:
    """A value for the page. `kind` is text, list, flag, plain or nothing."""

    name: str
    label: str
    kind: str
    value: Any


def label(name: str) -> str:
    """A field's name for people."""
    words = name.removesuffix("_usd").replace("_", " ")
    words = words[0].upper() + words[1:]
    return f"{words} (US$)" if name.endswith("_usd") else words


def shown(name: str, value: Any) -> Shown:
    """One value for people."""
    if value is None or value == [] or value == "":
        return Shown(
            name, label(name), "nothing", NOTHING.get(name, "No limit" if name in LIMITS else "Empty")
        )
    if isinstance(value, bool):
        return Shown(name, label(name), "flag", value)
    if isinstance(value, list):
        return Shown(name, label(name), "list", value)
    if isinstance(value, Decimal):
        return Shown(name, label(name), "plain", f"${value.normalize():,f}")
    if isinstance(value, int):
        return Shown(name, label(name), "plain", f"{value:,}")
    long = name in _GROUPED["Prompt"]
    return Shown(name, label(name), "text" if long else "plain", value)


def groups(version: ConfigurationVersion) -> Iterator[tuple[str, list[Shown]]]:
    """All values of a version under their headings."""
    for title, names in GROUPS.items():
        yield title, [shown(name, getattr(version, name)) for name in names]


MARKED = {
    Change.SAME: "{}",
    Change.ADDED: "<ins>{}</ins>",
    Change.REMOVED: "<del>{}</del>",
    Change.SKIPPED: '<span class="cp-skipped">{}</span>',
}


def text_html(pieces: Iterable[Piece]) -> SafeString:
    """A changed text as HTML, without a blank of its own between the pieces."""
    return format_html_join("", "{}", ((format_html(MARKED[piece.change], piece.text),) for piece in pieces))
