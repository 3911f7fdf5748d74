"""Counting without a tokenizer, for where a provider does not tell."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .types import CompletionRequest, ModelRef, Usage

# A word with the white space before it; very long words are cut so that text without spaces streams too.
_LONGEST_PIECE = 16
_PIECE = re.compile(rf"\s*\S{{1,{_LONGEST_PIECE}}}")
_BYTES_PER_TOKEN = 4
_COMMON = b"abcdefghijklmnopqrstuvwxyz \n"
_CAPITALS_AND_OTHER_SCRIPTS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ" + bytes(range(128, 256))
_LONGEST_ALONE = 8  # bytes to a piece on average; longer ones are several tokens sent together
_PER_MESSAGE = 4  # what chat formats add to each message


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
    """How many pieces the texts have together: the token count of the local provider and of the simulator. They are
    not cut for that."""
    return sum(-(-len(word) // _LONGEST_PIECE) for text in texts for word in text.split())


def estimate_call(request: CompletionRequest, model: ModelRef, texts: int, length: int) -> Usage:
    """What a call has used by now, where the provider does not tell: `texts` pieces of an answer came, `length` bytes
    of UTF-8 in all. Most providers send each token by itself.
    """
    apart = length <= texts * _LONGEST_ALONE
    output = texts if apart else tokens_in(length)
    if _counts_pieces(model):
        read = count_pieces([request.system, *(message.content for message in request.messages)])
    else:
        read = estimate_prompt(request)
    return Usage(input_tokens=read, output_tokens=output)


def answer_tokens(text: str, model: ModelRef) -> int:
    """About how many tokens an answer of this text took, where nothing but the text is left of it."""
    return count_pieces([text]) if _counts_pieces(model) else estimate_tokens(text)


def most_tokens(text: str, model: ModelRef) -> int:
    """How many tokens a text may be: an upper estimate, to hold a budget for.

    The built-in model and the simulator count pieces. For the others it goes by what a text is made of. Beside
    OpenAI's two vocabularies it is a third too high for English prose, and not too low for other scripts, code, JSON
    and numbers; random letters take a third more, and emoji half as much again in the older vocabulary.
    """
    if _counts_pieces(model):
        return count_pieces([text])
    data = text.encode("utf-8", "surrogatepass")
    uncommon = data.translate(None, _COMMON)
    odd = uncommon.translate(None, _CAPITALS_AND_OTHER_SCRIPTS)
    # A quarter of a token for a common byte, half of one for a capital or a byte of another script, one for the rest.
    return -(-(len(data) + len(uncommon) + 2 * len(odd)) // 4)


def most_in_prompt(texts: Iterable[str], model: ModelRef) -> int:
    """The same for the messages of a prompt, the instructions among them."""
    each = 0 if _counts_pieces(model) else _PER_MESSAGE
    return sum(most_tokens(text, model) + each for text in texts if text)


def _counts_pieces(model: ModelRef) -> bool:
    return model.provider == "local" or model.name == "sim" or model.name.startswith("sim-")
