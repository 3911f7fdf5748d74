"""OpenAI's chat completions, as the simulator says them."""

from __future__ import annotations

from typing import Any

import orjson

from .answers import Answer, Prompt, joined
from .settings import Fault, parse_fault
from .wire import TOKEN, around

_CREATED = 1_700_000_000


class OpenAIWire:
    """See ``wire.Wire``."""

    def parse(self, body: dict[str, Any]) -> Prompt:
        messages = body["messages"]
        texts = [(message["role"], joined(message.get("content"))) for message in messages]
        limit = body.get("max_completion_tokens") or body.get("max_tokens")
        return Prompt(
            model=str(body["model"]),
            system="\n\n".join(text for role, text in texts if role in ("system", "developer")),
            texts=tuple(text for role, text in texts if role not in ("system", "developer")),
            question=next((text for role, text in reversed(texts) if role == "user"), ""),
            stream=bool(body.get("stream")),
            include_usage=bool((body.get("stream_options") or {}).get("include_usage")),
            max_tokens=int(limit) if limit else None,
            tools=tuple(tool["function"]["name"] for tool in body.get("tools") or ()),
        )

    def whole(self, answer: Answer) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": answer.text or None, "refusal": None}
        if answer.calls_tool:
            message["tool_calls"] = [_tool_call(answer)]
        body = {
            "id": f"chatcmpl-{answer.id}",
            "object": "chat.completion",
            "created": _CREATED,
            "model": answer.prompt.model,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish}],
        }
        return body if _hides_usage(answer) else body | {"usage": _usage(answer)}

    def opening(self, answer: Answer) -> bytes:
        frames = _chunk(answer, {"role": "assistant", "content": "", "refusal": None})
        if answer.calls_tool:
            call = _tool_call(answer)
            arguments = call["function"]["arguments"]
            half = len(arguments) // 2
            head = {**call, "index": 0, "function": {"name": call["function"]["name"], "arguments": ""}}
            frames += _chunk(answer, {"tool_calls": [head]})
            for part in (arguments[:half], arguments[half:]):
                frames += _chunk(answer, {"tool_calls": [{"index": 0, "function": {"arguments": part}}]})
        return frames

    def around_token(self, answer: Answer) -> tuple[bytes, bytes]:
        return around(_chunk(answer, {"content": TOKEN}))

    def ending(self, answer: Answer) -> bytes:
        return _chunk(answer, {}, answer.finish)

    def closing(self, answer: Answer) -> bytes:
        if not answer.prompt.include_usage or _hides_usage(answer):
            return b"data: [DONE]\n\n"
        usage = _frame({**_head(answer), "choices": [], "usage": _usage(answer)})
        return usage + b"data: [DONE]\n\n"

    def failure(self, status: int, code: str, message: str) -> dict[str, Any]:
        return {"error": {"message": message, "type": code, "param": None, "code": code}}

    def failure_event(self, code: str, message: str) -> bytes:
        return _frame(self.failure(200, code, message))


def _chunk(answer: Answer, delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return _frame({**_head(answer), "choices": [choice]})


def _head(answer: Answer) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{answer.id}",
        "object": "chat.completion.chunk",
        "created": _CREATED,
        "model": answer.prompt.model,
        "system_fingerprint": "sim",
    }


def _frame(body: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"


def _tool_call(answer: Answer) -> dict[str, Any]:
    function = {"name": answer.settings.tool, "arguments": answer.settings.arguments}
    return {"id": f"call_{answer.id}", "type": "function", "function": function}


def _usage(answer: Answer) -> dict[str, Any]:
    """Cached tokens are inside the prompt's."""
    settings = answer.settings
    read = max(answer.input_tokens, settings.cached)
    return {
        "prompt_tokens": read,
        "completion_tokens": answer.output_tokens,
        "total_tokens": read + answer.output_tokens,
        "prompt_tokens_details": {"cached_tokens": settings.cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def _hides_usage(answer: Answer) -> bool:
    return parse_fault(answer.settings.fault)[0] is Fault.NO_USAGE
