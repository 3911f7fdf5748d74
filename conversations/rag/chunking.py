"""Sections into chunks of a size that says one thing: what gets embedded, found and quoted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from conversations.rag.documents import ParsedDocument, Section
from conversations.rag.text import sentences

CHUNK_CHARACTERS = 1000
OVERLAP_CHARACTERS = 200
PATH_SEPARATOR = " › "


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk before it is stored. `heading` is the path to it, joined by PATH_SEPARATOR: the
    document's title, then the headings from the outside in."""

    position: int
    heading: str
    text: str


def chunk(document: ParsedDocument, size: int = CHUNK_CHARACTERS) -> list[Piece]:
    """The chunks of a document, in reading order, each from one section and at most `size` characters.

    A section that fits is one chunk. A longer one is cut between sentences; each further chunk begins with the
    last sentence of the one before if that is short, so that a reference to it still makes sense.
    """
    found = [(section, text) for section in document.sections for text in _cut(section, size)]
    return [
        Piece(position, PATH_SEPARATOR.join((document.title, *section.path))[:500], text)
        for position, (section, text) in enumerate(found)
    ]


def embedded_text(piece: Piece) -> str:
    """What is embedded of a chunk: the heading tells what a passage of two sentences is about."""
    return f"{piece.heading.replace(PATH_SEPARATOR, '. ')}. {piece.text}"


def _cut(section: Section, size: int) -> Iterator[str]:
    if len(section.text) <= size:
        yield section.text
        return
    held: list[str] = []
    for unit in _units(section.text, size):
        if held and _length(held) + len(unit) > size:
            yield "".join(held).strip()
            carried = held[-1]
            held = (
                [carried] if len(carried) <= OVERLAP_CHARACTERS and len(carried) + len(unit) <= size else []
            )
        held.append(unit)
    yield "".join(held).strip()


def _units(text: str, size: int) -> Iterator[str]:
    """Sentences with the white space after them; one that is too long comes in slices."""
    for line in text.split("\n"):
        for sentence in sentences(line):
            for start in range(0, len(sentence), size - 1):
                yield sentence[start : start + size - 1] + " "
        yield "\n"


def _length(units: list[str]) -> int:
    return sum(map(len, units))
