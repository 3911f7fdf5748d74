"""HTML into sections: what a reader of the page reads, without its navigation and scripts."""

from __future__ import annotations

from lxml import etree
from lxml import html as lxml_html

from conversations.rag.documents import Outline, UnreadableDocument

SKIPPED = frozenset(
    "script style noscript template nav header footer aside form button select svg math iframe object "
    "video audio canvas head".split()
)
BLOCKS = frozenset(
    "address article blockquote body br dd div dl dt fieldset figcaption figure hr html li main ol p pre section "
    "table tbody tfoot thead tr ul".split()
)
HEADINGS = {f"h{level}": level for level in range(1, 7)}


def read_html(text: str, outline: Outline) -> None:
    """Headings and blocks of a page. Raises UnreadableDocument if the parser finds no page in it."""
    # A declared encoding is an error in text that is already decoded.
    parser = lxml_html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True)
    try:
        root = lxml_html.document_fromstring(text.encode("utf-8", "replace"), parser=parser)
    except (etree.ParserError, etree.XMLSyntaxError, ValueError) as error:
        raise UnreadableDocument("There is no HTML page in the file.") from error
    title = root.findtext(".//title")
    _Walk(outline).walk(root)
    outline.title = outline.title or " ".join((title or "").split())


class _Walk:
    """Goes through a tree without recursion: a page may be nested deeper than Python's stack."""

    def __init__(self, outline: Outline) -> None:
        self._outline = outline
        self._pending: list[str] = []
        self._level = 0

    def walk(self, root: etree._Element) -> None:
        skipped: etree._Element | None = None
        for event, element in etree.iterwalk(root, events=("start", "end")):
            if skipped is None and event == "start" and element.tag in SKIPPED:
                skipped = element
            if skipped is None:
                self._visit(event, element)
            if event == "end":
                if element is skipped:
                    skipped = None
                if skipped is None:
                    self._add(element.tail)
        self._end_block()

    def _visit(self, event: str, element: etree._Element) -> None:
        tag = str(element.tag)
        if tag in BLOCKS or tag in HEADINGS:
            self._end_block()
            self._level = HEADINGS.get(tag, 0) if event == "start" else 0
        elif tag in ("td", "th") and event == "end":
            self._add(" | ")
        if event == "start":
            self._add(element.text)

    def _add(self, text: str | None) -> None:
        if text:
            self._pending.append(text)

    def _end_block(self) -> None:
        text, self._pending = "".join(self._pending).strip().removesuffix("|"), []
        if self._level:
            self._outline.heading(self._level, text)
        else:
            self._outline.block(text)
