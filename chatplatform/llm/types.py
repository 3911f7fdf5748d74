"""The shapes that pass between the platform and its language models.

All of them are frozen, so they may be shared between tasks, and none knows a vendor: what OpenAI,
Anthropic and the local provider say differently is normalised before it gets here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Self

Role = Literal["system", "user", "assistant", "tool"]
MOST_TOKENS = 100_000_000  # that one call can be about


class FinishReason(StrEnum):
    """Why a model stopped."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


@dataclass(frozen=True, slots=True)
class ModelRef:
    """One model at one provider, e.g. ``ModelRef("openai", "gpt-4o-mini")``."""

    provider: str
    name: str

    def __str__(self) -> str:
        return f"{self.provider}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The reference that ``str`` wrote so."""
        provider, name = text.split("/", 1)
        return cls(provider, name)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A complete wish of the model to call a tool. ``arguments`` is the model's JSON text, unchecked."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool that the model may call. ``parameters`` is a JSON Schema of an object."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of the prompt.

    ``tool_calls`` belongs to an assistant's message, ``tool_call_id`` to the ``tool`` message that answers
    it.
    """

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


@dataclass(frozen=True, slots=True)
class Passage:
    """What retrieval found. ``quote`` is what may be shown, ``text`` the whole chunk, ``score`` grows with
    relevance.
    """

    title: str
    quote: str
    document_id: str
    score: float
    url: str | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """What a model is asked.

    ``model`` is a name for ``catalog.resolve`` or an already resolved reference. ``passages`` are read by the
    local provider only; for a real model the caller renders them into ``system``. ``temperature`` is left out
    for models that refuse it. ``max_tokens`` limits the output.
    """

    model: str | ModelRef
    messages: tuple[ChatMessage, ...]
    system: str = ""
    temperature: float | None = None
    max_tokens: int | None = None
    passages: tuple[Passage, ...] = ()
    tools: tuple[ToolSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one or more calls.

    ``input_tokens`` counts everything that was sent; the two cached counts are parts of it
    (OpenAI's way: Anthropic reports them on top, and is normalised).
    """

    input_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_input_tokens: int = 0
    output_tokens: int = 0

    @classmethod
    def reported(cls, *counts: Any) -> Usage | None:
        """What a provider says that a call used, in the fields' order; None if that cannot be, as if it had said
        nothing. Negative or cached beyond the whole, it would be booked below its cost, or not at all.
        """
        if not all(type(count) is int and 0 <= count <= MOST_TOKENS for count in counts):
            return None
        found = cls(*counts)
        cached = found.cached_input_tokens + found.cache_write_input_tokens
        return found if cached <= found.input_tokens else None

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.cached_input_tokens + other.cached_input_tokens,
            self.cache_write_input_tokens + other.cache_write_input_tokens,
            self.output_tokens + other.output_tokens,
        )


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More text of the answer; never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """The model's notes to itself: a sign of life, not a part of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of tool call number ``index``. ``id`` and ``name`` come with its first piece, else they are
    empty.
    """

    index: int
    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of a stream, exactly one.

    ``usage_estimated`` is true where the provider did not report its usage and we counted characters instead.
    """

    finish_reason: FinishReason
    usage: Usage
    usage_estimated: bool
    tool_calls: tuple[ToolCall, ...] = ()


StreamEvent = TextDelta | ReasoningDelta | ToolCallDelta | Finished
Batch = list[StreamEvent]
"""The events that arrived together, in their order; never empty."""


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer. ``model`` is the name that was asked for."""

    text: str
    finish_reason: FinishReason
    usage: Usage
    provider: str
    model: str
    tool_calls: tuple[ToolCall, ...] = ()
    usage_estimated: bool = False


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One vector per text, in their order. ``usage`` is None where the provider did not report it."""

    vectors: list[list[float]]
    usage: Usage | None


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait, in seconds.

    ``first_token`` runs from the call to the first event, ``inter_token`` from one event to the next
    (keep-alive comments are no events), ``total`` from the call to the end.
    """

    first_token: float = 30.0
    inter_token: float = 20.0
    total: float = 180.0


@dataclass(slots=True)
class ToolCallBuffer:
    """Joins the pieces of a streamed tool call."""

    id: str = ""
    name: str = ""
    pieces: list[str] = field(default_factory=list)

    def add(self, delta: ToolCallDelta) -> None:
        self.id = self.id or delta.id
        self.name = self.name or delta.name
        self.pieces.append(delta.arguments)

    def build(self) -> ToolCall:
        return ToolCall(self.id, self.name, "".join(self.pieces))
