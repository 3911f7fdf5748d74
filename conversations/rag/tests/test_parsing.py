"""Every format into sections, and every kind of bad file refused with a reason."""

from __future__ import annotations

import resource
import time

import pytest

from conversations.rag.documents import Limits, UnreadableDocument
from conversations.rag.parsing import parse
from conversations.rag.tests.files import pdf, pdf_bomb

MARKDOWN = b"""---
layout: page
---
# Returns

You may send things back.

## How *long*

- Thirty days
- Or [sixty](https://x.test) at `Christmas`

### Abroad

| land | days |
|------|------|
| Malta | 40 |

<script>alert(1)</script>

## Costs

```
free
```
"""
HTML = b"""<html><head><title>Shop</title><style>p{}</style></head><body>
<nav><a>Home</a></nav><script>var x = "secret"</script>
<h1>Opening <b>hours</b></h1><p>We open<br>at nine.</p>
<h2>Sunday</h2><div>Closed<ul><li>always</li></ul> tail</div><footer>imprint</footer>
<table><tr><th>day</th><td>Monday</td></tr></table></body></html>"""


def test_it_reads_markdown_with_its_heading_paths() -> None:
    document = parse("returns.md", MARKDOWN)
    assert document.title == "Returns"
    assert [(section.path, section.text) for section in document.sections] == [
        ((), "You may send things back."),
        (("How long",), "Thirty days\nOr sixty at Christmas"),
        (("How long", "Abroad"), "land | days\nMalta | 40"),
        (("Costs",), "free"),
    ]


def test_it_reads_what_a_reader_of_a_page_sees() -> None:
    document = parse("hours.html", HTML)
    assert document.title == "Opening hours"
    assert [(section.path, section.text) for section in document.sections] == [
        ((), "We open\nat nine."),
        (("Sunday",), "Closed\nalways\ntail\nday | Monday"),
    ]


def test_it_survives_deeply_nested_html() -> None:
    page = b"<div>" * 100_000 + b"deep" + b"</div>" * 100_000
    try:
        assert parse("deep.html", page).sections
    except UnreadableDocument as error:
        assert str(error)


def test_it_reads_plain_text_by_paragraphs() -> None:
    document = parse("opening-hours_2026.txt", b"Mondays\r\nat nine.\r\n\r\nClosed on Sundays.")
    assert document.title == "Opening hours 2026"
    assert document.sections[0].text == "Mondays at nine.\nClosed on Sundays."


def test_it_reads_each_page_of_a_pdf() -> None:
    document = parse("guide.pdf", pdf("Open the box", "Plug it in", title="The guide"))
    assert document.title == "The guide"
    assert [section.path for section in document.sections] == [("Page 1",), ("Page 2",)]
    assert "Plug it in" in document.sections[1].text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("Grüße €5".encode(), "Grüße €5"),
        ("Grüße €5".encode("utf-8-sig"), "Grüße €5"),
        ("Grüße €5".encode("utf-16"), "Grüße €5"),
        ("Grüße €5".encode("cp1252"), "Grüße €5"),
        ("שלום 👋🏽".encode(), "שלום 👋🏽"),
    ],
)
def test_it_reads_text_in_common_encodings(data: bytes, text: str) -> None:
    assert parse("a.txt", data).sections[0].text == text


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.docx", b"text", "format"),
        ("a", b"text", "format"),
        ("a.md", b"", "empty"),
        ("a.md", b" \n\t ", "empty"),
        ("a.md", b"# only a heading", "no text"),
        ("a.txt", b"a\0b", "binary"),
        ("a.txt", bytes(range(256)) * 10, "binary|not text"),
        ("a.txt", b"\xff\xfea", "not text"),
        ("a.html", b"<script>x()</script>", "no text"),
        ("a.html", b"<!-- nothing -->", "no"),
        ("a.pdf", b"hello", "not a PDF"),
        ("a.pdf", b"%PDF-1.7\n" + b"\x00\xff" * 500, "damaged"),
        ("a.pdf", pdf("Open the box")[:200], "damaged"),
        ("a.pdf", pdf("secret", password="swordfish"), "encrypted"),
        ("a.pdf", pdf(""), "no text"),
    ],
)
def test_it_refuses_bad_files_with_a_reason(name: str, data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableDocument, match=reason):
        parse(name, data)


@pytest.mark.parametrize(
    ("data", "limits", "reason"),
    [
        (b"x" * 101, Limits(file_bytes=100), "100 are allowed"),
        (b"x y " * 100, Limits(text_characters=100), "100 are allowed"),
    ],
)
def test_it_refuses_more_than_the_limits(data: bytes, limits: Limits, reason: str) -> None:
    with pytest.raises(UnreadableDocument, match=reason):
        parse("a.txt", data, limits)


def test_it_refuses_a_pdf_with_too_many_pages() -> None:
    with pytest.raises(UnreadableDocument, match="3 pages; 2 are allowed"):
        parse("a.pdf", pdf("1", "2", "3"), Limits(pdf_pages=2))


@pytest.mark.parametrize("layers", [1, 2])
def test_a_pdf_bomb_is_refused_soon_and_costs_this_process_nothing(layers: int) -> None:
    data = pdf_bomb(1_000_000_000, layers)
    assert len(data) < 3_000_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    with pytest.raises(UnreadableDocument, match="too much"):
        parse("bomb.pdf", data)
    assert time.monotonic() - started < 15
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_a_pdf_that_takes_too_long_is_given_up() -> None:
    pages = pdf(*["word " * 200] * 300)
    with pytest.raises(UnreadableDocument, match=r"within 0\.2 seconds"):
        parse("slow.pdf", pages, Limits(pdf_seconds=0.2))


def test_a_pdf_that_takes_too_much_memory_is_given_up() -> None:
    with pytest.raises(UnreadableDocument, match="too much memory"):
        parse("big.pdf", pdf("Open the box"), Limits(pdf_memory_bytes=1_000_000))
