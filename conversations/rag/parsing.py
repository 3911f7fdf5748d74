"""Markdown, plain text, HTML and PDF into titled sections. Whatever cannot be read says why."""

from __future__ import annotations

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
    if data.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        encodings = ("utf-32",)
    elif data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings = ("utf-16",)
    else:
        encodings = ("utf-8-sig", "cp1252")
    for encoding in encodings:
        try:
            return _checked_text(data.decode(encoding))
        except UnicodeDecodeError:
            continue
    raise UnreadableDocument("The file is not text, or in an unknown encoding; please save it as UTF-8.")


def _checked_text(text: str) -> str:
    if "\0" in text or sum(text.count(character) for character in CONTROL) > len(text) * CONTROL_SHARE:
        raise UnreadableDocument("The file holds binary data, not text.")
    return "".join(character for character in text if character not in CONTROL) if CONTROL & set(text) else text


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
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(_without_front_matter(text))
    heading, row = 0, []
    for token in tokens:
        if token.type == "heading_open":
            heading = int(token.tag[1])
        elif token.type == "tr_open":
            row = []
        elif token.type == "tr_close":
            outline.block(" | ".join(filter(None, row)))
        elif token.type == "inline":
            _take_inline(token, heading, row, outline)
            heading = 0
        elif token.type in ("fence", "code_block"):
            outline.block(token.content)


def _take_inline(token: Token, heading: int, row: list[str], outline: Outline) -> None:
    text = _inline_text(token)
    if heading:
        outline.heading(heading, text)
    elif token.level >= 4 and token.block and _in_table(token):
        row.append(text)
    else:
        outline.block(text)
