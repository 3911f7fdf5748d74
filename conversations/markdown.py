"""Markdown to HTML that is safe to show: no raw HTML, no images, links that leak nothing.

`static/chat/markdown.js` renders what streams in; both must look the same.
"""

from __future__ import annotations

from typing import Any

import nh3
from django.utils.html import linebreaks
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt

TAGS = frozenset(
    "p br hr em strong del s code pre blockquote ul ol li h3 h4 h5 h6 table thead tbody tr th td a".split()
)
LONGEST = 60_000  # characters
MOST_BRACKETS = 5_000  # each may begin a link, and is looked at closely
LINKS = ("http://", "https://", "mailto:")
HEADINGS_ABOVE = 2  # the page's own: its title, and who is speaking


def to_html(text: str) -> SafeString:
    """The text as sanitised HTML. Whatever the renderer lets through, the sanitiser allows only TAGS and links.

    What would keep the renderer busy for long is shown as plain paragraphs instead.
    """
    if len(text) > LONGEST or text.count("[") > MOST_BRACKETS:
        return mark_safe(linebreaks(text, autoescape=True))  # escaped
    html = nh3.clean(
        _renderer.render(text),
        tags=set(TAGS),
        attributes={"a": {"href", "title"}, "ol": {"start"}, "code": {"class"}},
        attribute_filter=_checked_attribute,
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )
    return mark_safe(html)  # sanitised in the line above


def _checked_attribute(tag: str, attribute: str, value: str) -> str | None:
    # A relative link in an answer would lead to somewhere on this very page's host.
    if attribute == "href" and not value.lower().startswith(LINKS):
        return None
    return value


def _lower_headings(state: Any) -> None:
    for token in state.tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + HEADINGS_ABOVE)}"


def _description(renderer: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
    # An image would tell its server who reads: only its description is shown.
    return nh3.clean_text(tokens[index].content)


_renderer = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable(["table", "strikethrough"])
_renderer.core.ruler.push("lower_headings", _lower_headings)
_renderer.add_render_rule("image", _description)
