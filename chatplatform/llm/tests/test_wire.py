"""The decoders by themselves: however the network cuts a body, the events are the same."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chatplatform.llm.errors import MalformedResponse
from chatplatform.llm.providers import anthropic_wire, openai_wire
from chatplatform.llm.providers.sse import MAX_LINE, LineSplitter, StreamDecoder
from chatplatform.llm.tokens import count_pieces, pieces
from chatplatform.llm.types import (
    ChatMessage,
    CompletionRequest,
    FinishReason,
    ModelRef,
    ReasoningDelta,
    StreamEvent,
    ToolCall,
    ToolSpec,
    Usage,
)

from .asking import ask, end_of, text_of

REF = ModelRef("openai", "gpt-4o-mini")
CLAUDE = ModelRef("anthropic", "claude-haiku-5-5")
TEXT = "Grüße, 世界 👩‍👩‍👧! \u2028 \\n"


def openai_body(newline: bytes = b"\n") -> bytes:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, {"reasoning_content": "hm"}]
    deltas += [{"content": character} for character in TEXT]
    chunks: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas
    ]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    chunks.append({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})
    lines = [b": comment", *(b"data: " + orjson.dumps(chunk) for chunk in chunks), b"data: [DONE]"]
    return b"".join(line + newline * 2 for line in lines)


def decode(body: bytes, cuts: list[int]) -> list[StreamEvent]:
    decoder: StreamDecoder = openai_wire.OpenAIDecoder(ask("gpt-4o-mini"), REF)
    lines = LineSplitter(REF)
    edges = [0, *sorted(cuts), len(body)]
    events: list[StreamEvent] = []
    for start, end in pairwise(edges):
        events += [event for line in lines.feed(body[start:end]) for event in decoder.feed(line)]
    events += [event for line in lines.flush() for event in decoder.feed(line)]
    return [*events, decoder.finish()]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, len(openai_body())), max_size=40))
def test_every_way_to_cut_the_body_gives_the_same_events(cuts: list[int]) -> None:
    events = decode(openai_body(), cuts)
    assert events == decode(openai_body(), [])
    assert text_of(events) == TEXT


def test_it_reads_any_line_end_and_a_body_without_a_last_one() -> None:
    assert decode(openai_body(b"\r\n"), []) == decode(openai_body().rstrip(b"\n"), [])


def test_notes_are_events_but_not_text() -> None:
    events = decode(openai_body(), [])
    assert ReasoningDelta("hm") in events
    assert "hm" not in text_of(events)
    assert end_of(events).usage == Usage(input_tokens=7, output_tokens=3)


@given(st.text())
@example("x" * 33 + "\u3000\x1c" + "y" * 16)
def test_pieces_are_counted_as_they_are_cut(text: str) -> None:
    assert count_pieces([text, text]) == 2 * len(pieces(text))


def test_an_endless_line_is_refused() -> None:
    lines = LineSplitter(REF)
    with pytest.raises(MalformedResponse):
        for _ in range(MAX_LINE // 1_000_000 + 1):
            lines.feed(b"x" * 1_000_000)


@pytest.mark.parametrize(
    "payload", [b"[]", b'"text"', b'{"choices": [3]}', b'{"choices": {"a": 1}}', b"{", b"\xff\xfe", b""]
)
def test_nonsense_is_malformed(payload: bytes) -> None:
    with pytest.raises(MalformedResponse):
        list(openai_wire.OpenAIDecoder(ask("m"), REF).feed(b"data: " + payload))


@pytest.mark.parametrize(
    "payload", [b"[]", b'{"type":"message_start"}', b'{"type":"content_block_delta","delta":1}']
)
def test_nonsense_is_malformed_for_anthropic_too(payload: bytes) -> None:
    with pytest.raises(MalformedResponse):
        list(anthropic_wire.AnthropicDecoder(ask("m"), CLAUDE).feed(b"data: " + payload))


def test_openai_gets_the_limit_by_the_name_that_it_knows() -> None:
    request = ask("m", max_tokens=9, temperature=0.5)
    official = openai_wire.build_body(request, REF, "https://api.openai.com/v1")
    own = openai_wire.build_body(request, REF, "http://localhost:11434/v1")
    reasoning = openai_wire.build_body(request, ModelRef("openai", "gpt-5.4-mini"), "http://proxy/v1")
    assert official["max_completion_tokens"] == own["max_tokens"] == reasoning["max_completion_tokens"] == 9
    assert "max_tokens" not in official
    assert own["temperature"] == 0.5
    assert "temperature" not in reasoning


def test_anthropic_gets_its_prompt_in_its_own_shape() -> None:
    call = ToolCall("t1", "look_up", '{"id": 3}')
    messages = (
        ChatMessage("assistant", "Welcome!"),
        ChatMessage("system", "Be brief."),
        ChatMessage("user", "Where is it?"),
        ChatMessage("assistant", "", tool_calls=(call,)),
        ChatMessage("tool", "on its way", tool_call_id="t1"),
    )
    tool = ToolSpec("look_up", "Look up", {"type": "object"})
    request = CompletionRequest("m", messages, system="You help.", temperature=1.5, tools=(tool,))
    body = anthropic_wire.build_body(request, ModelRef("anthropic", "claude-sonnet-4-5"))
    assert body["system"] == "You help.\n\nBe brief."
    assert body["max_tokens"] > 0
    assert body["temperature"] == 1.0
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][1]["content"] == [
        {"type": "tool_use", "id": "t1", "name": "look_up", "input": {"id": 3}}
    ]
    assert body["tools"][0]["input_schema"] == {"type": "object"}
    assert "temperature" not in anthropic_wire.build_body(request, CLAUDE)


def test_cached_tokens_are_inside_the_input_of_both() -> None:
    openai = openai_wire.parse_usage(
        {"prompt_tokens": 100, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 80}}
    )
    anthropic = anthropic_wire.parse_usage(
        {
            "input_tokens": 10,
            "cache_read_input_tokens": 80,
            "cache_creation_input_tokens": 10,
            "output_tokens": 5,
        }
    )
    assert openai == Usage(100, 80, 0, 5)
    assert anthropic == Usage(100, 80, 10, 5)
    assert openai is not None and anthropic is not None
    assert openai + anthropic == Usage(200, 160, 10, 10)


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt_tokens": -1, "completion_tokens": 5},
        {"prompt_tokens": 7, "completion_tokens": "5"},
        {"prompt_tokens": 7, "completion_tokens": 5.5},
        {"prompt_tokens": 7, "completion_tokens": 10**12},
        {"prompt_tokens": 7, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 8}},
    ],
    ids=["negative", "text", "a part of one", "beyond all measure", "more cached than sent"],
)
def test_a_usage_that_cannot_be_is_as_good_as_none(wrong: dict[str, Any]) -> None:
    decoder = openai_wire.OpenAIDecoder(ask("m"), REF)
    for chunk in ({"choices": [{"delta": {"content": "Yes."}, "finish_reason": "stop"}]}, {"usage": wrong}):
        list(decoder.feed(b"data: " + orjson.dumps(chunk)))
    end = decoder.finish()
    assert end.usage_estimated
    assert end.usage.input_tokens > 0 and end.usage.output_tokens == 1


@pytest.mark.parametrize(
    "wrong", [{"cache_read_input_tokens": -50}, {"input_tokens": "7"}, {"output_tokens": -1}]
)
def test_neither_is_one_of_anthropics(wrong: dict[str, Any]) -> None:
    decoder = anthropic_wire.AnthropicDecoder(ask("m"), CLAUDE)
    usage = {"input_tokens": 10, "cache_read_input_tokens": 3, "output_tokens": 5} | wrong
    for event in ({"type": "message_start", "message": {"usage": usage}}, {"type": "message_stop"}):
        list(decoder.feed(b"data: " + orjson.dumps(event)))
    end = decoder.finish()
    assert end.usage_estimated and end.usage.input_tokens > 0 and end.usage.output_tokens >= 0


def test_an_unknown_finish_reason_is_a_stop() -> None:
    decoder = openai_wire.OpenAIDecoder(ask("m"), REF)
    list(decoder.feed(b'data: {"choices":[{"delta":{},"finish_reason":"something_new"}]}'))
    assert decoder.finish().finish_reason is FinishReason.STOP
