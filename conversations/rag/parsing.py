"""Markdown, plain text, HTML and PDF into titled sections. Whatever cannot be read says why."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePath

from markdown_it import MarkdownIt
from markdown_it.token import Token

from conversations.rag.documents import Limits, Outline, ParsedDocument, UnreadableDocument
from conversations.rag.html import read_html
from conversations.rag.pdf import read_pdf

MARKDOWN, PLAIN, HTML, PDF = "text/markdown", "text/plain", "text/html", "application/pdf"
TYPES = {
    ".md": MARKDOWN,
    ".markdown": MARKDOWN,
    ".txt": PLAIN,
    ".text": PLAIN,
    ".html": HTML,
    ".htm": HTML,
    ".pdf": PDF,
}
# What a control character in a text file betrays; tab, line feed, form feed and carriage return are text.
CONTROL = {chr(code) for code in range(32)} - set("\t\n\f\r") | {"\x7f"}
CONTROL_SHARE = 0.001
FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)


def parse(name: str, data: bytes, limits: Limits = Limits()) -> ParsedDocument:  # noqa: B008 - frozen
    """A document from the name and bytes of a file; the name's ending tells the format.

    Raises UnreadableDocument: unknown format, too large, empty, not what its name says, encrypted, and so on.
    """
    content_type = TYPES.get(PurePath(name).suffix.lower())
    if content_type is None:
        raise UnreadableDocument(f"The format is not supported; supported are {', '.join(TYPES)}.")
    if len(data) > limits.file_bytes:
        raise UnreadableDocument(f"The file has {len(data):,} bytes; {limits.file_bytes:,} are allowed.")
    if not data.strip():
        raise UnreadableDocument("The file is empty.")
    outline = Outline()
    if content_type == PDF:
        read_pdf(data, outline, limits)
    else:
        _TEXT_READERS[content_type](decoded(data), outline)
    return _document(name, outline, content_type, limits)


def decoded(data: bytes) -> str:
    """The text in a file: UTF-8, UTF-16 or UTF-32 with a byte order mark, else Windows-1252.

    Raises UnreadableDocument for bytes that are no text.
    """
    encodings = ["utf-8-sig", "cp1252"]
    if data.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        encodings = ["utf-32"]
    elif data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings = ["utf-16"]
    for encoding in encodings:
        try:
            return _checked_text(data.decode(encoding))
        except UnicodeDecodeError:
            continue
    raise UnreadableDocument("The file is not text, or in an unknown encoding; please save it as UTF-8.")


def _checked_text(text: str) -> str:
    if "\0" in text or sum(text.count(character) for character in CONTROL) > len(text) * CONTROL_SHARE:
        raise UnreadableDocument("The file holds binary data, not text.")
    return (
        "".join(character for character in text if character not in CONTROL) if CONTROL & set(text) else text
    )


def _document(name: str, outline: Outline, content_type: str, limits: Limits) -> ParsedDocument:
    sections = outline.sections()
    if not sections:
        raise UnreadableDocument("There is no text in the file.")
    size = sum(len(section.text) for section in sections)
    if size > limits.text_characters:
        raise UnreadableDocument(f"The text has {size:,} characters; {limits.text_characters:,} are allowed.")
    return ParsedDocument((outline.title or title_from(name))[:300], sections, content_type)


def title_from(name: str) -> str:
    """A title out of a file's name: `opening-hours.md` becomes `Opening hours`."""
    words = PurePath(name).stem.replace("-", " ").replace("_", " ").strip()
    return (words[:1].upper() + words[1:]) or name


def read_plain(text: str, outline: Outline) -> None:
    """Paragraphs are what empty lines separate."""
    for paragraph in text.replace("\r\n", "\n").replace("\f", "\n\n").split("\n\n"):
        outline.block(paragraph)


def read_markdown(text: str, outline: Outline) -> None:
    """CommonMark with tables. Raw HTML in it is dropped, images leave their alternative text."""
    heading = 0
    row: list[str] | None = None
    for token in MarkdownIt("commonmark").enable("table").parse(FRONT_MATTER.sub("", text, count=1)):
        if token.type == "heading_open":
            heading = int(token.tag[1])
        elif token.type == "tr_open":
            row = []
        elif token.type == "tr_close":
            outline.block(" | ".join(filter(None, row or [])))
            row = None
        elif token.type == "inline":
            _take(_inline_text(token), heading, row, outline)
            heading = 0
        elif token.type in ("fence", "code_block"):
            outline.block(token.content)


def _take(text: str, heading: int, row: list[str] | None, outline: Outline) -> None:
    if heading:
        outline.heading(heading, text)
    elif row is not None:
        row.append(text)
    else:
        outline.block(text)


def _inline_text(token: Token) -> str:
    parts = []
    for child in token.children or []:
        if child.type in ("softbreak", "hardbreak"):
            parts.append(" ")
        elif child.type in ("text", "code_inline", "image"):
            parts.append(child.content)
    return "".join(parts)


_TEXT_READERS: dict[str, Callable[[str, Outline], None]] = {
    MARKDOWN: read_markdown,
    PLAIN: read_plain,
    HTML: read_html,
}
