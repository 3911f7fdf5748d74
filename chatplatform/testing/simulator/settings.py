"""What the simulator can be told, and the one grammar to say it in.

Directives are ``key=value``. They stand in three places, later ones win:

* the server's own settings (command line, ``POST /_control``);
* the model name, after ``sim-``, separated by commas: ``sim-tokens=150,tps=30,fault=drop@20``
  (a word without ``=`` is only a label: ``sim-fast``);
* the last user message, in double brackets, separated by spaces:
  ``[[sim: tokens=50 ttft=0.2 text="Hello there"]]``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any, Self

_MESSAGE = re.compile(r"\[\[sim:(.*?)\]\]", re.DOTALL)


class Fault(StrEnum):
    """What may go wrong. Those marked @ happen after that many tokens (default: half of the answer)."""

    RATE_LIMIT = "rate_limit"
    """429 with ``retry-after``."""
    ERROR = "error"
    """500."""
    UNAVAILABLE = "unavailable"
    """503."""
    OVERLOADED = "overloaded"
    """529."""
    OVERLOADED_INSIDE = "overloaded_inside"
    """@ ``overloaded_error`` inside a 200."""
    UNAUTHORIZED = "unauthorized"
    """401, with a message that repeats the key as real providers do."""
    BAD_REQUEST = "bad_request"
    """400, with a message that repeats the prompt."""
    CONTENT_FILTER = "content_filter"
    """400 by the content policy."""
    REDIRECT = "redirect"
    """307 to another path."""
    DROP = "drop"
    """@ The connection is reset."""
    TRUNCATE = "truncate"
    """@ The body ends cleanly without its terminal marker."""
    STALL = "stall"
    """@ Nothing more is sent; the connection stays open."""
    KEEPALIVE = "keepalive"
    """@ Only keep-alive comments are sent from there on."""
    MALFORMED = "malformed"
    """@ A line of broken JSON."""
    NO_USAGE = "no_usage"
    """The answer is complete, but its usage is not reported."""
    STALL_AT_END = "stall_at_end"
    """The answer is complete, then nothing more: neither usage nor the end of the body."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to answer.

    ``ttft`` seconds to the first token, then ``tps`` tokens per second (0: no delay). ``tokens`` is the
    length of an answer, ``text`` its wording, ``finish`` its finish reason in OpenAI's words. ``fault`` is
    a ``Fault`` with an optional ``@position``; ``retry_after`` seconds go with 429. ``cached`` and
    ``cache_write`` are parts of the prompt that the usage reports as cached. ``tool`` makes the model call
    that tool with the JSON ``arguments``. ``chunk`` cuts the body into pieces of that many bytes, through
    the middle of lines and characters. With ``signed`` (1), every token names the request and its place in
    the answer, and nothing else: ``17.0 17.1 17.2``. With ``limitless`` (1), an answer is as long as it is, whatever
    the request allows.
    """

    ttft: float = 0.0
    tps: float = 0.0
    tokens: int = 50
    text: str = ""
    finish: str = ""
    fault: str = ""
    retry_after: float = 1.0
    cached: int = 0
    cache_write: int = 0
    tool: str = ""
    arguments: str = "{}"
    chunk: int = 0
    signed: int = 0
    limitless: int = 0

    def updated(self, values: Mapping[str, Any]) -> Self:
        """A copy with these values, converted to their types. Raises ``ValueError`` for what does not
        exist.
        """
        kinds = {field.name: type(getattr(self, field.name)) for field in fields(self)}
        unknown = sorted(set(values) - set(kinds))
        if unknown:
            raise ValueError(f"unknown setting: {', '.join(unknown)}")
        changed = replace(self, **{name: kinds[name](value) for name, value in values.items()})
        parse_fault(changed.fault)
        return changed


def parse_fault(text: str) -> tuple[Fault | None, int | None]:
    """``drop@20`` → (``Fault.DROP``, 20). Raises ``ValueError``."""
    name, _, position = text.partition("@")
    return (Fault(name) if name else None), (int(position) if position else None)


def for_request(defaults: Settings, model: str, message: str) -> Settings:
    """The settings for one request. Raises ``ValueError`` for a directive that does not exist."""
    settings = defaults
    if model.startswith("sim-"):
        settings = settings.updated(_pairs(model[4:].split(",")))
    for directive in _MESSAGE.findall(message):
        settings = settings.updated(_pairs(shlex.split(directive)))
    return settings


def without_directives(message: str) -> str:
    return _MESSAGE.sub("", message).strip()


def _pairs(words: Iterable[str]) -> dict[str, str]:
    return {key: value for key, equals, value in (word.partition("=") for word in words) if equals}
