"""What the simulated model says: the same for the same request, always."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

from chatplatform.llm.tokens import count_pieces, pieces

from .settings import Settings, for_request, without_directives

_FILLER = pieces(
    " This is a simulated answer. It grows word by word, as a real one would, and says nothing that matters."
    " Its length and its pace are what the request asked for."
)
_WORD = re.compile(r"\w{3,}")


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request, whatever its wire format."""

    model: str
    system: str
    texts: tuple[str, ...]
    question: str
    stream: bool
    include_usage: bool
    max_tokens: int | None
    tools: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: its tokens, each a piece of text, and what is reported about it. ``finish`` in OpenAI's
    words.
    """

    id: str
    prompt: Prompt
    settings: Settings
    tokens: tuple[str, ...]
    finish: str
    input_tokens: int
    output_tokens: int

    @property
    def text(self) -> str:
        return "".join(self.tokens)

    @property
    def calls_tool(self) -> bool:
        return self.finish == "tool_calls"


def compose(prompt: Prompt, defaults: Settings, number: int) -> Answer:
    """Answer request number ``number``. Raises ``ValueError`` for a bad directive."""
    settings = for_request(defaults, prompt.model, prompt.question)
    tool = bool(settings.tool) and settings.tool in prompt.tools
    words = signed(number, settings.tokens) if settings.signed else _words(prompt, settings)
    limit = None if settings.limitless else prompt.max_tokens
    cut = not tool and limit is not None and len(words) > limit
    tokens = () if tool else tuple(words[:limit] if cut else words)
    finish = "tool_calls" if tool else settings.finish or ("length" if cut else "stop")
    output = count_pieces([settings.arguments]) + 1 if tool else len(tokens)
    read = max(1, count_pieces([prompt.system, *prompt.texts]))
    return Answer(f"sim{number}", prompt, settings, tokens, finish, read, output)


def signed(number: int, count: int) -> list[str]:
    """An answer that tells by which request each of its tokens was asked for, and which token it is."""
    return [f"{' ' * bool(place)}{number}.{place}" for place in range(count)]


def _words(prompt: Prompt, settings: Settings) -> list[str]:
    if settings.text:
        return pieces(settings.text)
    question = without_directives(prompt.question)
    source = _best_source(prompt.system, question)
    begin = pieces(f"The sources say: {source}" if source else f"You asked: {question or 'nothing'}")
    if source or len(begin) >= settings.tokens:
        return begin[: settings.tokens] if not source else begin
    return begin + list(islice(cycle(_FILLER), settings.tokens - len(begin)))


def _best_source(system: str, question: str) -> str:
    """The paragraph of a system prompt with sources that shares most words with the question."""
    if "source" not in system.lower():
        return ""
    asked = set(_WORD.findall(question.lower()))
    paragraphs = [paragraph.strip() for paragraph in system.split("\n\n")]
    scored = [(len(asked & set(_WORD.findall(text.lower()))), text) for text in paragraphs]
    best, text = max(scored, key=lambda pair: pair[0])
    return text if best >= 2 else ""


def embed(text: str, dimensions: int) -> list[float]:
    """A unit vector by hashing words: the same for the same text, near for texts that share words."""
    vector = [0.0] * dimensions
    for word in re.findall(r"\w+", text.lower()) or [""]:
        code = word.encode("utf-8", "surrogatepass")
        digest = int.from_bytes(hashlib.blake2b(code, digest_size=8).digest(), "big")
        vector[digest % dimensions] += 1.0 if digest & (1 << 60) else -1.0
    length = math.sqrt(sum(number * number for number in vector)) or 1.0
    return [number / length for number in vector]


def texts_of(content: object) -> Iterable[str]:
    """The texts of a message's content: a string, or a list of blocks."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for block in content:
            if isinstance(block, Mapping):
                yield from texts_of(block.get("text") or block.get("content") or "")


def joined(content: Any) -> str:
    return "\n".join(texts_of(content))
