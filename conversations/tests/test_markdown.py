"""Markdown on the way out: readable, and harmless."""

from __future__ import annotations

import re

import pytest
from django.utils.html import escape
from hypothesis import given, settings
from hypothesis import strategies as st

from conversations.markdown import TAGS, to_html

NASTY = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "[x](javascript:alert(1))", "[x](JaVaScRiPt:alert(1))",
    "[x](data:text/html,<script>alert(1)</script>)", "![x](https://evil.example/p.png)", "![x](x \"onerror=alert(1)\")",
    "<a href='javascript:alert(1)'>x</a>",
    "[x]: javascript:alert(1)\n\n[x]", "<svg/onload=alert(1)>", "<iframe src=//x>",
    "<style>*{display:none}</style>", "[x](vbscript:x)", "<https://x\" onclick=alert(1)>", "`</code><script>`",
    "[<img src=x onerror=alert(1)>](https://x)", "![<script>alert(1)</script>](x)", "```\"><script>\nx\n```",
    "|<script>|\n|-|\n|<img src=x>|", "&lt;script&gt;", "&#x3C;script&#x3E;", "[a](https://x 'title\" onload=\"x')",
]  # fmt: skip
TAG = re.compile(r"<\s*/?\s*([a-zA-Z0-9]+)([^>]*)>")
LINK = re.compile(r'href="([^"]*)"')
ATTRIBUTES = {"href", "title", "rel", "target", "start", "class"}


def check_harmless(html: str) -> None:
    for name, attributes in TAG.findall(html):
        assert name in TAGS, html
        assert set(re.findall(r'([a-zA-Z-]+)="', attributes)) <= ATTRIBUTES, html
    for link in LINK.findall(html):
        # What has a scheme has a harmless one; the rest stays on this site.
        scheme = re.match(r"\s*([a-zA-Z][a-zA-Z0-9+.-]*):", link)
        assert scheme is None or scheme[1].lower() in {"http", "https", "mailto"}, html


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("Hello **you** and *me*", "<p>Hello <strong>you</strong> and <em>me</em></p>"),
        ("~~old~~ `code`", "<p><s>old</s> <code>code</code></p>"),
        ("- one\n- two", "<ul>\n<li>one</li>\n<li>two</li>\n</ul>"),
        ("3. three", '<ol start="3">\n<li>three</li>\n</ol>'),
        ("1 < 2 & 3", "<p>1 &lt; 2 &amp; 3</p>"),
        ("", ""),
        ("👩‍👩‍👧 שלום", "<p>👩‍👩‍👧 שלום</p>"),
    ],
)
def test_it_renders_what_people_write(text: str, html: str) -> None:
    assert to_html(text).strip() == html


def test_a_table_is_a_table() -> None:
    html = to_html("| a | b |\n|---|---|\n| 1 | 2 |")
    assert "<th>a</th>" in html
    assert "<td>2</td>" in html


def test_a_link_opens_elsewhere_and_tells_nothing() -> None:
    html = to_html("[shop](https://shop.example/?a=1&b=2)")
    assert 'href="https://shop.example/?a=1&amp;b=2"' in html
    assert 'rel="noopener noreferrer nofollow"' in html
    assert 'target="_blank"' in html


def test_bare_addresses_are_not_made_links() -> None:
    assert "<a" not in to_html("https://evil.example/?secret=1")


@pytest.mark.parametrize(
    "text", ["![a cat](https://evil.example/p.png?secret=1)", "![a cat][1]\n\n[1]: //evil.example"]
)
def test_an_image_is_its_description(text: str) -> None:
    html = to_html(text)
    assert "a cat" in html
    assert "evil" not in html


@pytest.mark.parametrize("unit", ["![", "[", "[a](", "*a_ ", "x<script>"])
def test_what_takes_long_to_render_is_shown_as_it_is(unit: str) -> None:
    text = unit * (100_000 // len(unit))
    html = to_html(text)
    check_harmless(html)
    assert html == f"<p>{escape(text)}</p>"


def test_many_brackets_are_enough_to_take_long() -> None:
    assert to_html("**a**" + "![" * 6_000).startswith("<p>**a**![")
    assert "<strong>" in to_html("**a**" + "![" * 1_000)


@pytest.mark.parametrize("text", NASTY)
def test_nothing_nasty_comes_out(text: str) -> None:
    check_harmless(to_html(text))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(st.sampled_from(NASTY), st.text(max_size=8), st.sampled_from("[]()<>!`*_|\n\"' #")),
        max_size=8,
    )
)
def test_nothing_nasty_comes_out_of_any_mixture(parts: list[str]) -> None:
    check_harmless(to_html("".join(parts)))
