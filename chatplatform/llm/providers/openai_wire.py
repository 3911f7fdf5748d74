"""OpenAI's chat-completions format as data: request bodies out, chunks and answers in. No input or output
here.
"""

from __future__ import annotations

import re
from array import array
from base64 import b64decode
from collections.abc import Iterable
from sys import byteorder
from typing import Any, cast
from urllib.parse import urlsplit

from chatplatform.llm.errors import MalformedResponse, Truncated
from chatplatform.llm.tokens import estimate_prompt, estimate_tokens, tokens_in, utf8_length
from chatplatform.llm.types import (
    ChatMessage,
    Completion,
    CompletionRequest,
    Embeddings,
    Finished,
    FinishReason,
    ModelRef,
    ReasoningDelta,
    StreamEvent,
    TextDelta,
    ToolCall,
    ToolCallBuffer,
    ToolCallDelta,
    ToolSpec,
    Usage,
)

from .failures import from_error_event
from .sse import load_object

# Reasoning models refuse `temperature` and know the output limit only by its new name.
_REASONING = re.compile(r"o\d|gpt-([5-9]|\d\d)(?!.*chat)")
_FINISH = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
}


def build_body(request: CompletionRequest, ref: ModelRef, base_url: str) -> dict[str, Any]:
    """The JSON body of ``/chat/completions``, without ``stream``."""
    reasoning = _REASONING.match(ref.name) is not None
    body: dict[str, Any] = {"model": ref.name, "messages": _messages(request)}
    if request.max_tokens is not None:
        official = (urlsplit(base_url).hostname or "").endswith((".openai.com", ".openai.azure.com"))
        body["max_completion_tokens" if official or reasoning else "max_tokens"] = request.max_tokens
    if request.temperature is not None and not reasoning:
        body["temperature"] = request.temperature
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    return body


def _messages(request: CompletionRequest) -> list[dict[str, Any]]:
    system = [{"role": "system", "content": request.system}] if request.system else []
    return system + [_message(message) for message in request.messages]


def _message(message: ChatMessage) -> dict[str, Any]:
    body: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        body["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        body["tool_call_id"] = message.tool_call_id
    return body


def _tool(tool: ToolSpec) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", "function": function}


class OpenAIDecoder:
    """Decodes the ``data:`` lines of one stream; see ``sse.StreamDecoder``."""

    def __init__(self, request: CompletionRequest, ref: ModelRef) -> None:
        self._request = request
        self._ref = ref
        self._reason: FinishReason | None = None
        self._usage: Usage | None = None
        self._tools: dict[int, ToolCallBuffer] = {}
        self._output_bytes = 0
        self.answered = False
        self.closed = False

    def feed(self, line: bytes) -> Iterable[StreamEvent]:
        if not line.startswith(b"data:"):
            return ()
        payload = line[5:].strip()
        if payload == b"[DONE]":
            self.closed = True
            return ()
        return self._chunk(load_object(payload, self._ref))

    def finish(self) -> Finished:
        if self._reason is None:
            raise Truncated("no finish_reason", provider=self._ref.provider, model=self._ref.name)
        usage = self._usage or Usage(
            input_tokens=estimate_prompt(self._request), output_tokens=tokens_in(self._output_bytes)
        )
        calls = tuple(self._tools[index].build() for index in sorted(self._tools))
        return Finished(self._reason, usage, self._usage is None, calls)

    def _chunk(self, chunk: dict[str, Any]) -> Iterable[StreamEvent]:
        if chunk.get("error"):
            raise from_error_event(chunk, self._ref)
        if chunk.get("usage"):
            self._usage = parse_usage(chunk["usage"])
        choices = chunk.get("choices")
        if not choices:
            return ()
        try:
            return self._choice(choices[0])
        except (TypeError, KeyError, AttributeError, IndexError):
            raise _malformed(self._ref, "unexpected chunk") from None

    def _choice(self, choice: dict[str, Any]) -> list[StreamEvent]:
        events = self._delta(choice.get("delta") or {})
        if choice.get("finish_reason"):
            self._reason = _FINISH.get(choice["finish_reason"], FinishReason.STOP)
            self.answered = True
        return events

    def _delta(self, delta: dict[str, Any]) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        # A refusal is an answer too, only in a field of its own.
        if text := delta.get("content") or delta.get("refusal"):
            self._output_bytes += utf8_length(text)
            events.append(TextDelta(text))
        if notes := delta.get("reasoning_content") or delta.get("reasoning"):
            self._output_bytes += utf8_length(notes)
            events.append(ReasoningDelta(notes))
        for call in delta.get("tool_calls") or ():
            events.append(self._tool_call(call))
        return events

    def _tool_call(self, call: dict[str, Any]) -> ToolCallDelta:
        function = call.get("function") or {}
        delta = ToolCallDelta(
            call.get("index", 0),
            call.get("id") or "",
            function.get("name") or "",
            function.get("arguments") or "",
        )
        self._output_bytes += utf8_length(delta.name + delta.arguments)
        self._tools.setdefault(delta.index, ToolCallBuffer()).add(delta)
        return delta


def parse_completion(body: dict[str, Any], request: CompletionRequest, ref: ModelRef) -> Completion:
    """The answer to a call without ``stream``. Raises ``ProviderError``."""
    if body.get("error"):
        raise from_error_event(body, ref)
    try:
        choice = body["choices"][0]
        message = choice["message"]
        text = message.get("content") or message.get("refusal") or ""
        calls = tuple(
            ToolCall(call["id"], call["function"]["name"], call["function"]["arguments"])
            for call in message.get("tool_calls") or ()
        )
        reason = choice["finish_reason"]
    except (KeyError, IndexError, TypeError, AttributeError):
        raise _malformed(ref, "not a chat completion") from None
    if not reason:
        raise Truncated("no finish_reason", provider=ref.provider, model=ref.name)
    usage = parse_usage(body["usage"]) if body.get("usage") else None
    estimate = Usage(input_tokens=estimate_prompt(request), output_tokens=estimate_tokens(text))
    finish = _FINISH.get(reason, FinishReason.STOP)
    return Completion(
        text, finish, usage or estimate, ref.provider, ref.name, calls, usage_estimated=usage is None
    )


def parse_usage(usage: dict[str, Any]) -> Usage | None:
    """OpenAI's cached tokens are already inside ``prompt_tokens``."""
    details = usage.get("prompt_tokens_details") or {}
    return Usage.reported(
        usage.get("prompt_tokens") or 0,
        details.get("cached_tokens") or 0,
        details.get("cache_write_tokens") or 0,
        usage.get("completion_tokens") or 0,
    )


def parse_embeddings(body: dict[str, Any], count: int, ref: ModelRef) -> Embeddings:
    """An embeddings answer, its vectors in the order of their texts, sent as base64 or as numbers."""
    if body.get("error"):
        raise from_error_event(body, ref)
    try:
        rows = sorted(body["data"], key=lambda row: cast(int, row["index"]))
        vectors = [_vector(row["embedding"]) for row in rows]
        usage = parse_usage(body["usage"]) if body.get("usage") else None
    except (KeyError, TypeError, ValueError):
        raise _malformed(ref, "not an embeddings answer") from None
    if len(vectors) != count:
        raise _malformed(ref, f"{len(vectors)} embeddings for {count} texts")
    return Embeddings(vectors, usage)


def _vector(embedding: str | list[float]) -> list[float]:
    if not isinstance(embedding, str):
        return [float(number) for number in embedding]
    numbers = array("f", b64decode(embedding, validate=True))
    if byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()


def _malformed(ref: ModelRef, detail: str) -> MalformedResponse:
    return MalformedResponse(detail, provider=ref.provider, model=ref.name)
