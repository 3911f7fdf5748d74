"""Counting without a tokenizer, for where a provider does not tell."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .types import CompletionRequest

# A word with the white space before it; very long words are cut so that text without spaces streams too.
_PIECE = re.compile(r"\s*\S{1,16}")
_BYTES_PER_TOKEN = 4


def pieces(text: str) -> list[str]:
    """Cut text into words (each with its leading white space, at most 16 characters); joined they give
    ``text.rstrip()``.
    """
    return _PIECE.findall(text)


def estimate_tokens(text: str) -> int:
    """About how many tokens a usual tokenizer makes of this: one per four bytes of UTF-8, rounded up."""
    return tokens_in(utf8_length(text))


def utf8_length(text: str) -> int:
    """Bytes of the text in UTF-8; the cheap case first, because this runs for every token."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def tokens_in(length: int) -> int:
    """The estimate for that many bytes of UTF-8."""
    return -(-length // _BYTES_PER_TOKEN)


def estimate_prompt(request: CompletionRequest) -> int:
    """The same for a whole request, with the four tokens that chat formats add to each message."""
    texts = [request.system, *(message.content for message in request.messages)]
    return sum(estimate_tokens(text) + 4 for text in texts if text)


def count_pieces(texts: Iterable[str]) -> int:
    """How many pieces the texts have together: the token count of the local provider and of the simulator."""
    return sum(len(pieces(text)) for text in texts)
