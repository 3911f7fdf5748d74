"""What two configuration versions differ in, field by field; long texts word by word."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from django.db import models

from tenants.models import ConfigurationVersion
from tenants.models.configuration import FIELDS

WORDS = re.compile(r"\s+|\w+|[^\w\s]")
MOST_WORDS = 4_000  # beyond, a changed passage is shown whole: matching its words would take seconds
CONTEXT = 3  # unchanged lines kept around a change


class Change(StrEnum):
    """What became of a piece of text or an item of a list. `SKIPPED` stands for unchanged lines left out."""

    SAME = "same"
    ADDED = "added"
    REMOVED = "removed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Piece:
    change: Change
    text: str


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that differs. Texts and lists come in `pieces`; single values in `before` and `after`."""

    field: str
    kind: str  # text, list or value
    before: Any
    after: Any
    pieces: tuple[Piece, ...] = ()


def between(old: ConfigurationVersion, new: ConfigurationVersion) -> list[Difference]:
    """The fields in which `new` differs from `old`, in the order of the configuration."""
    return [_difference(name, getattr(old, name), getattr(new, name)) for name in names(old, new)]


def names(old: ConfigurationVersion, new: ConfigurationVersion) -> list[str]:
    """The names of those fields."""
    return [name for name in FIELDS if getattr(old, name) != getattr(new, name)]


def _difference(name: str, before: Any, after: Any) -> Difference:
    if isinstance(ConfigurationVersion._meta.get_field(name), models.TextField):
        return Difference(name, "text", before, after, tuple(text_pieces(before, after)))
    if isinstance(before or [], list) and isinstance(after or [], list) and (before or after):
        return Difference(name, "list", before, after, tuple(_items(before or [], after or [])))
    return Difference(name, "value", before, after)


def text_pieces(before: str, after: str) -> list[Piece]:
    """Joining all but the added gives `before`, all but the removed `after` (skipped lines aside)."""
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    pieces: list[Piece] = []
    opcodes = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    for place, (tag, i1, i2, j1, j2) in enumerate(opcodes):
        if tag == "equal":
            pieces += _kept(old[i1:i2], first=place == 0, last=place == len(opcodes) - 1)
        else:
            pieces += _passage("".join(old[i1:i2]), "".join(new[j1:j2]))
    return list(_joined(pieces))


def _kept(lines: Sequence[str], *, first: bool, last: bool) -> list[Piece]:
    """Unchanged lines: all of a few, else those next to a change."""
    head, tail = (0 if first else CONTEXT), (0 if last else CONTEXT)
    hidden = len(lines) - head - tail
    if hidden <= CONTEXT:
        return [Piece(Change.SAME, "".join(lines))]
    shown = [
        Piece(Change.SAME, "".join(lines[:head])),
        Piece(Change.SKIPPED, f"{hidden} unchanged lines"),
        Piece(Change.SAME, "".join(lines[len(lines) - tail :])),
    ]
    return [piece for piece in shown if piece.text]


def _passage(before: str, after: str) -> list[Piece]:
    old, new = WORDS.findall(before), WORDS.findall(after)
    if max(len(old), len(new)) > MOST_WORDS:
        return _replaced(before, after)
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    if matcher.ratio() < 0.35:
        return _replaced(before, after)  # hardly a word in common: a mosaic of words helps nobody
    pieces: list[Piece] = []
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag == "equal":
            pieces.append(Piece(Change.SAME, "".join(old[i1:i2])))
        else:
            pieces += _replaced("".join(old[i1:i2]), "".join(new[j1:j2]))
    return pieces


def _replaced(before: str, after: str) -> list[Piece]:
    both = (Piece(Change.REMOVED, before), Piece(Change.ADDED, after))
    return [piece for piece in both if piece.text]


def _joined(pieces: Sequence[Piece]) -> Iterator[Piece]:
    """Neighbours of one kind as one piece."""
    waiting: Piece | None = None
    for piece in pieces:
        if waiting and waiting.change is piece.change is not Change.SKIPPED:
            waiting = Piece(piece.change, waiting.text + piece.text)
            continue
        if waiting:
            yield waiting
        waiting = piece
    if waiting:
        yield waiting


def _items(before: Sequence[str], after: Sequence[str]) -> Iterator[Piece]:
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if tag == "equal":
            yield from (Piece(Change.SAME, item) for item in before[i1:i2])
        else:
            yield from (Piece(Change.REMOVED, item) for item in before[i1:i2])
            yield from (Piece(Change.ADDED, item) for item in after[j1:j2])
