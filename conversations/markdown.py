"""Markdown to HTML that is safe to show: no raw HTML, no images, links that leak nothing."""

from __future__ import annotations

import nh3
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt

TAGS = frozenset(
    "p br hr em strong del s code pre blockquote ul ol li h1 h2 h3 h4 h5 h6 table thead tbody tr th td a".split()
)
_renderer = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable(["table", "strikethrough"])
# An image would tell its server who reads: only its description is shown.
_renderer.add_render_rule("image", lambda self, tokens, index, options, env: _text(tokens[index].content))


def to_html(text: str) -> SafeString:
    """The text as sanitised HTML. Whatever the renderer lets through, the sanitiser allows only TAGS and links."""
    html = nh3.clean(
        _renderer.render(text),
        tags=set(TAGS),
        attributes={"a": {"href", "title"}, "ol": {"start"}, "code": {"class"}},
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )
    return mark_safe(html)


def _text(text: str) -> str:
    return nh3.clean_text(text)
