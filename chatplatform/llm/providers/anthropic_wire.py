"""Anthropic's messages format as data: request bodies out, events and answers in. No input or output here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import orjson

from chatplatform.llm.errors import MalformedResponse, Truncated
from chatplatform.llm.tokens import estimate_prompt, estimate_tokens, tokens_in, utf8_length
from chatplatform.llm.types import (
    ChatMessage,
    Completion,
    CompletionRequest,
    Finished,
    FinishReason,
    ModelRef,
    ReasoningDelta,
    StreamEvent,
    TextDelta,
    ToolCall,
    ToolCallBuffer,
    ToolCallDelta,
    Usage,
)

from .failures import from_error_event
from .sse import load_object

# The protocol wants a limit; this is ours where the caller sets none.
DEFAULT_MAX_TOKENS = 4096
# Later models refuse `temperature`.
_TAKES_TEMPERATURE = re.compile(r"claude-(2|3|instant|(opus|sonnet|haiku)-4(-[0-6])?(-\d{8})?$)")
_FINISH = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "pause_turn": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "refusal": FinishReason.CONTENT_FILTER,
}


def build_body(request: CompletionRequest, ref: ModelRef) -> dict[str, Any]:
    """The JSON body of ``/v1/messages``, without ``stream``."""
    system = [request.system, *(m.content for m in request.messages if m.role == "system")]
    body: dict[str, Any] = {
        "model": ref.name,
        "max_tokens": request.max_tokens or DEFAULT_MAX_TOKENS,
        "messages": _messages(request.messages),
    }
    if any(system):
        body["system"] = "\n\n".join(text for text in system if text)
    if request.temperature is not None and _TAKES_TEMPERATURE.match(ref.name):
        # OpenAI's scale ends at 2, Anthropic's at 1.
        body["temperature"] = min(request.temperature, 1.0)
    if request.tools:
        body["tools"] = [
            {"name": tool.name, "description": tool.description, "input_schema": dict(tool.parameters)}
            for tool in request.tools
        ]
    return body


def _messages(messages: Iterable[ChatMessage]) -> list[dict[str, Any]]:
    """The protocol starts with the user, refuses empty texts, and has the system prompt elsewhere."""
    kept = [
        m for m in messages if m.role != "system" and (m.content.strip() or m.tool_calls or m.tool_call_id)
    ]
    while kept and kept[0].role == "assistant":
        kept.pop(0)
    return [_message(message) for message in kept]


def _message(message: ChatMessage) -> dict[str, Any]:
    if message.role == "tool":
        result = {"type": "tool_result", "tool_use_id": message.tool_call_id, "content": message.content}
        return {"role": "user", "content": [result]}
    if not message.tool_calls:
        return {"role": message.role, "content": message.content}
    blocks: list[dict[str, Any]] = (
        [{"type": "text", "text": message.content}] if message.content.strip() else []
    )
    blocks += [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": _arguments(call)}
        for call in message.tool_calls
    ]
    return {"role": "assistant", "content": blocks}


def _arguments(call: ToolCall) -> dict[str, Any]:
    """Our calls keep the arguments as JSON text, this protocol as an object; what a model garbled becomes
    empty.
    """
    try:
        value = orjson.loads(call.arguments)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


class AnthropicDecoder:
    """Decodes the ``data:`` lines of one stream; see ``sse.StreamDecoder``."""

    def __init__(self, request: CompletionRequest, ref: ModelRef) -> None:
        self._request = request
        self._ref = ref
        self._reason: FinishReason | None = None
        self._usage: dict[str, Any] = {}
        self._tools: dict[int, ToolCallBuffer] = {}
        self._output_bytes = 0
        self._handlers: dict[str, Callable[[dict[str, Any]], Iterable[StreamEvent]]] = {
            "message_start": self._message_start,
            "content_block_start": self._block_start,
            "content_block_delta": self._block_delta,
            "message_delta": self._message_delta,
            "message_stop": self._message_stop,
            "error": self._error,
        }
        self.answered = False
        self.closed = False

    def feed(self, line: bytes) -> Iterable[StreamEvent]:
        if not line.startswith(b"data:"):
            return ()
        event = load_object(line[5:], self._ref)
        handler = self._handlers.get(event.get("type", ""))
        if handler is None:
            return ()
        try:
            return handler(event)
        except (KeyError, TypeError, AttributeError):
            raise MalformedResponse(
                "unexpected event", provider=self._ref.provider, model=self._ref.name
            ) from None

    def finish(self) -> Finished:
        if not self.closed:
            raise Truncated("no message_stop", provider=self._ref.provider, model=self._ref.name)
        calls = tuple(self._tools[index].build() for index in sorted(self._tools))
        known = "output_tokens" in self._usage and "input_tokens" in self._usage
        reported = parse_usage(self._usage) if known else None
        usage = reported or Usage(
            input_tokens=estimate_prompt(self._request), output_tokens=tokens_in(self._output_bytes)
        )
        return Finished(self._reason or FinishReason.STOP, usage, reported is None, calls)

    def _message_start(self, event: dict[str, Any]) -> Iterable[StreamEvent]:
        self._merge_usage(event["message"].get("usage"))
        return ()

    def _block_start(self, event: dict[str, Any]) -> Iterable[StreamEvent]:
        block = event["content_block"]
        if block["type"] == "tool_use":
            return self._tool_piece(ToolCallDelta(event["index"], block["id"], block["name"], ""))
        return self._text_piece(block.get("text") or "")

    def _block_delta(self, event: dict[str, Any]) -> Iterable[StreamEvent]:
        delta = event["delta"]
        if delta["type"] == "text_delta":
            return self._text_piece(delta["text"])
        if delta["type"] == "input_json_delta":
            return self._tool_piece(ToolCallDelta(event["index"], "", "", delta["partial_json"]))
        if delta["type"] == "thinking_delta":
            self._output_bytes += utf8_length(delta["thinking"])
            return (ReasoningDelta(delta["thinking"]),)
        return ()

    def _message_delta(self, event: dict[str, Any]) -> Iterable[StreamEvent]:
        if reason := event["delta"].get("stop_reason"):
            self._reason = _FINISH.get(reason, FinishReason.STOP)
        self._merge_usage(event.get("usage"))
        return ()

    def _message_stop(self, event: dict[str, Any]) -> Iterable[StreamEvent]:
        self.answered = self.closed = True
        return ()

    def _error(self, event: dict[str, Any]) -> Iterable[StreamEvent]:
        raise from_error_event(event, self._ref)

    def _text_piece(self, text: str) -> Iterable[StreamEvent]:
        self._output_bytes += utf8_length(text)
        return (TextDelta(text),) if text else ()

    def _tool_piece(self, delta: ToolCallDelta) -> Iterable[StreamEvent]:
        self._output_bytes += utf8_length(delta.name + delta.arguments)
        self._tools.setdefault(delta.index, ToolCallBuffer()).add(delta)
        return (delta,)

    def _merge_usage(self, usage: dict[str, Any] | None) -> None:
        """Counts are cumulative, and later events repeat only some of them."""
        self._usage.update({key: value for key, value in (usage or {}).items() if value is not None})


def parse_completion(body: dict[str, Any], request: CompletionRequest, ref: ModelRef) -> Completion:
    """The answer to a call without ``stream``. Raises ``ProviderError``."""
    if body.get("error"):
        raise from_error_event(body, ref)
    try:
        text = "".join(block["text"] for block in body["content"] if block["type"] == "text")
        calls = tuple(
            ToolCall(block["id"], block["name"], orjson.dumps(block["input"]).decode())
            for block in body["content"]
            if block["type"] == "tool_use"
        )
        reason = body["stop_reason"]
    except (KeyError, TypeError):
        raise MalformedResponse("not a message", provider=ref.provider, model=ref.name) from None
    if not reason:
        raise Truncated("no stop_reason", provider=ref.provider, model=ref.name)
    estimate = Usage(input_tokens=estimate_prompt(request), output_tokens=estimate_tokens(text))
    usage = parse_usage(body["usage"]) if body.get("usage") else None
    finish = _FINISH.get(reason, FinishReason.STOP)
    return Completion(
        text, finish, usage or estimate, ref.provider, ref.name, calls, usage_estimated=usage is None
    )


def parse_usage(usage: dict[str, Any]) -> Usage | None:
    """Anthropic reports cache reads and writes on top of ``input_tokens``; ours are inside."""
    read = usage.get("cache_read_input_tokens") or 0
    written = usage.get("cache_creation_input_tokens") or 0
    try:
        sent = (usage.get("input_tokens") or 0) + read + written
    except TypeError:
        return None
    return Usage.reported(sent, read, written, usage.get("output_tokens") or 0)
