"""Takes secrets out of what is logged and reported, however they got in: keys, tokens, passwords in addresses, and the
values of the settings that are secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

HIDDEN = "[hidden]"
LEAST = 8  # characters of a setting that is looked for: a shorter one is part of ordinary words
SHAPES = (
    r"(?<=\bcp_)[a-z0-9]{1,20}_[0-9A-Za-z]{12}_[0-9A-Za-z]{38}",  # our API keys
    r"\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*",  # tokens (JWT)
    r"\bsk-[\w-]{16,}",  # keys of providers
    r"(?<=://)[^\s/@\"']+(?=@)",  # user and password in an address
    r"(?i:(?<=\bbearer )|(?<=\bbasic ))[^\s\"',\\]{8,}",
    r"(?<=[?&]token=)[^\s&\"'\\]+",  # links in mails, tickets
    r"(?<=[?&]ticket=)[^\s&\"'\\]+",
)
PATTERN = re.compile("|".join(SHAPES))
# Without one of these there is nothing to look for, and to find that out takes no time.
MARKS = ("cp_", "eyJ", "sk-", "@", "earer ", "EARER ", "asic ", "ASIC ", "token=", "ticket=")
_values: list[str] = []


def hide(values: Iterable[str]) -> None:
    """Hide these values, too: what the secret settings are."""
    _values[:] = sorted({value for value in values if len(value) >= LEAST}, key=len, reverse=True)


def hide_also(value: str) -> None:
    """Hide one more."""
    hide({*_values, value})


def hidden(text: str) -> str:
    """The text without secrets."""
    for value in _values:
        if value in text:
            text = text.replace(value, HIDDEN)
    return PATTERN.sub(HIDDEN, text) if any(mark in text for mark in MARKS) else text


def first_line(said: str) -> str:
    """What an error says, without what follows: a database's goes on with the values that it is about."""
    return said.partition("\n")[0]


def hidden_in(value: Any) -> Any:
    """The same for all texts in lists and dictionaries."""
    match value:
        case str():
            return hidden(value)
        case dict():
            return {name: hidden_in(one) for name, one in value.items()}
        case list() | tuple():
            return [hidden_in(one) for one in value]
    return value
