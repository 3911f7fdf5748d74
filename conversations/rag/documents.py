"""What parsing makes of a file, whatever its format."""

from __future__ import annotations

from dataclasses import dataclass


class UnreadableDocument(Exception):
    """A document that cannot be taken in. `str()` is a sentence for the person who handed it over."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a document is accepted.

    `file_bytes` bounds the file, `text_characters` what is read out of it, `pdf_pages` the pages of a PDF,
    `pdf_seconds` the time and `pdf_memory_bytes` the address space that the process reading it may take.
    """

    file_bytes: int = 20_000_000
    text_characters: int = 5_000_000
    pdf_pages: int = 2_000
    pdf_seconds: float = 30.0
    pdf_memory_bytes: int = 700_000_000


@dataclass(frozen=True, slots=True)
class Section:
    """Text under one heading. `path` holds the headings from the outside in, without the document's title.

    Paragraphs, list items and table rows of `text` are separated by line breaks.
    """

    path: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """A document's title and its sections, in reading order; at least one section, none of them empty."""

    title: str
    sections: tuple[Section, ...]
    content_type: str


class Outline:
    """Collects headings and blocks in reading order into sections."""

    def __init__(self) -> None:
        self.title = ""
        self._open: list[tuple[int, str]] = []
        self._blocks: list[str] = []
        self._sections: list[Section] = []

    def heading(self, level: int, text: str) -> None:
        """Open a section. The first heading of level 1 names the document."""
        self._flush()
        text = squeeze(text)
        if level == 1 and not self.title:
            self.title = text
            return
        self._open = [(above, name) for above, name in self._open if above < level]
        if text:
            self._open.append((level, text))

    def block(self, text: str) -> None:
        """Add a paragraph, list item or table row to the open section."""
        if text := squeeze(text):
            self._blocks.append(text)

    def sections(self) -> tuple[Section, ...]:
        """All sections that hold text."""
        self._flush()
        return tuple(self._sections)

    def _flush(self) -> None:
        if self._blocks:
            self._sections.append(Section(tuple(name for _, name in self._open), "\n".join(self._blocks)))
            self._blocks = []


def squeeze(text: str) -> str:
    """The text with every run of white space as one space."""
    return " ".join(text.split())
