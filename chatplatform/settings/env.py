"""Typed readers of the environment, and the list of every variable that was asked for.

Each reader declares one variable: its name, type, default and meaning. `docs/settings.md` is generated from
what was declared, so a setting that is not documented cannot exist. `NAME_FILE` (a path to a file that holds
the value) is accepted for every secret, as container platforms hand them over.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from django.core.exceptions import ImproperlyConfigured

T = TypeVar("T")
TRUE, FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off", ""}


@dataclass(frozen=True, slots=True)
class Variable:
    """One declared variable, as `docs/settings.md` shows it."""

    name: str
    kind: str
    default: str
    meaning: str
    secret: bool


declared: dict[str, Variable] = {}
secrets: set[str] = set()  # the values of those that are secret


def text(
    name: str, default: str = "", *, meaning: str, secret: bool = False, shown: str | None = None
) -> str:
    """The variable as text; `shown` replaces a default that is computed in the documentation."""
    return _read(name, "text", default, str, meaning, secret, shown)


def number(name: str, default: int, *, meaning: str) -> int:
    """The variable as a whole number. Raises ImproperlyConfigured if it is not one."""
    return _read(name, "whole number", default, int, meaning)


def limit(name: str, *, meaning: str) -> int | None:
    """The variable as a whole number from 0 on; None, if it is not set, is no limit."""
    return _read(name, "whole number", None, _as_limit, meaning, shown="no limit")


def decimal(name: str, default: float, *, meaning: str) -> float:
    """The variable as a number (seconds, rates: never money)."""
    return _read(name, "number", default, float, meaning)


def flag(name: str, default: bool, *, meaning: str) -> bool:
    """The variable as yes or no (`1`, `true`, `yes`, `on` / `0`, `false`, `no`, `off`)."""
    return _read(name, "yes or no", default, _as_flag, meaning)


def path(name: str, default: Path, *, meaning: str, shown: str) -> Path:
    """The variable as an absolute path."""
    return _read(
        name, "path", default, lambda value: Path(value).expanduser().resolve(), meaning, shown=shown
    )


def file_of(name: str) -> Path | None:
    """The file that a secret was read from, if it was: whoever uses it may look again."""
    file = os.environ.get(f"{name}_FILE")
    return Path(file) if file and not os.environ.get(name) else None


def _as_limit(value: str) -> int | None:
    if (number := int(value)) < 0:
        raise ValueError("expected 0 or more")
    return number


def _as_flag(value: str) -> bool:
    lowered = value.strip().lower()
    if lowered in TRUE:
        return True
    if lowered in FALSE:
        return False
    raise ValueError("expected yes or no")


def _read(
    name: str,
    kind: str,
    default: T,
    convert: Callable[[str], T],
    meaning: str,
    secret: bool = False,
    shown: str | None = None,
) -> T:
    declared[name] = Variable(name, kind, str(default) if shown is None else shown, meaning, secret)
    raw = os.environ.get(name)
    if secret and not raw and (file := os.environ.get(f"{name}_FILE")):
        raw = _from_file(name, file)
    if secret and raw:
        secrets.add(raw)
    if raw is None or (raw == "" and kind != "text"):
        return default
    try:
        return convert(raw) if raw else default
    except ValueError as error:
        raise ImproperlyConfigured(f"{name}={raw!r} is not a {kind}") from error


def _from_file(name: str, file: str) -> str:
    try:
        return Path(file).read_text().strip()
    except OSError as error:
        raise ImproperlyConfigured(f"{name}_FILE={file!r} cannot be read: {error.strerror}") from error
