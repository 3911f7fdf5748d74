"""Anthropic's messages, as the simulator says them."""

from __future__ import annotations

from typing import Any

import orjson

from .answers import Answer, Prompt, joined
from .settings import Fault, parse_fault
from .wire import TOKEN, around

_FINISH = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}


class AnthropicWire:
    """See ``wire.Wire``."""

    def parse(self, body: dict[str, Any]) -> Prompt:
        texts = [(message["role"], joined(message["content"])) for message in body["messages"]]
        if any(role not in ("user", "assistant") for role, _ in texts):
            raise ValueError("messages: role must be user or assistant")
        return Prompt(
            model=str(body["model"]),
            system=joined(body.get("system")),
            texts=tuple(text for _, text in texts),
            question=next((text for role, text in reversed(texts) if role == "user"), ""),
            stream=bool(body.get("stream")),
            include_usage=True,
            max_tokens=int(body["max_tokens"]),
            tools=tuple(tool["name"] for tool in body.get("tools") or ()),
        )

    def whole(self, answer: Answer) -> dict[str, Any]:
        block: dict[str, Any] = {"type": "text", "text": answer.text}
        if answer.calls_tool:
            block = {**_tool_block(answer), "input": orjson.loads(answer.settings.arguments)}
        finish = _FINISH.get(answer.finish, answer.finish)
        body = {**_message(answer), "content": [block], "stop_reason": finish}
        return body if _hides_usage(answer) else {**body, "usage": _usage(answer, answer.output_tokens)}

    def opening(self, answer: Answer) -> bytes:
        message = {**_message(answer), "content": [], "stop_reason": None, "usage": _usage(answer, 1)}
        if _hides_usage(answer):
            del message["usage"]
        block = {**_tool_block(answer), "input": {}} if answer.calls_tool else {"type": "text", "text": ""}
        frames = _event("message_start", message=message)
        frames += _event("content_block_start", index=0, content_block=block)
        frames += _event("ping")
        if answer.calls_tool:
            arguments = answer.settings.arguments
            half = len(arguments) // 2
            frames += _delta({"type": "input_json_delta", "partial_json": arguments[:half]})
            frames += _delta({"type": "input_json_delta", "partial_json": arguments[half:]})
        return frames

    def around_token(self, answer: Answer) -> tuple[bytes, bytes]:
        return around(_delta({"type": "text_delta", "text": TOKEN}))

    def ending(self, answer: Answer) -> bytes:
        delta = {"stop_reason": _FINISH.get(answer.finish, answer.finish), "stop_sequence": None}
        usage = {} if _hides_usage(answer) else {"usage": {"output_tokens": answer.output_tokens}}
        frames = _event("content_block_stop", index=0)
        return frames + _event("message_delta", delta=delta, **usage) + _event("message_stop")

    def closing(self, answer: Answer) -> bytes:
        return b""

    def failure(self, status: int, code: str, message: str) -> dict[str, Any]:
        return {"type": "error", "error": {"type": code, "message": message}, "request_id": "req_sim"}

    def failure_event(self, code: str, message: str) -> bytes:
        return _event("error", error={"type": code, "message": message})


def _event(kind: str, **fields: Any) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps({"type": kind, **fields}) + b"\n\n"


def _delta(delta: dict[str, Any]) -> bytes:
    return _event("content_block_delta", index=0, delta=delta)


def _message(answer: Answer) -> dict[str, Any]:
    return {
        "id": f"msg_{answer.id}",
        "type": "message",
        "role": "assistant",
        "model": answer.prompt.model,
        "stop_sequence": None,
    }


def _tool_block(answer: Answer) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{answer.id}", "name": answer.settings.tool}


def _usage(answer: Answer, output: int) -> dict[str, Any]:
    """Cache reads and writes come on top of ``input_tokens``."""
    settings = answer.settings
    return {
        "input_tokens": answer.input_tokens,
        "cache_creation_input_tokens": settings.cache_write,
        "cache_read_input_tokens": settings.cached,
        "output_tokens": output,
        "service_tier": "standard",
    }


def _hides_usage(answer: Answer) -> bool:
    return parse_fault(answer.settings.fault)[0] is Fault.NO_USAGE
