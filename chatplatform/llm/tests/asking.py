"""Shorthands for the tests of the gateway."""

from __future__ import annotations

from typing import Any

from chatplatform.llm.gateway import Gateway
from chatplatform.llm.types import ChatMessage, CompletionRequest, Finished, StreamEvent, TextDelta, Timeouts

PROVIDERS = ("openai", "anthropic", "llama")


def ask(
    model: str, content: str = "What is the return period?", system: str = "", **more: Any
) -> CompletionRequest:
    return CompletionRequest(model, (ChatMessage("user", content),), system=system, **more)


async def collect(
    gateway: Gateway, request: CompletionRequest, timeouts: Timeouts | None = None
) -> list[StreamEvent]:
    return [event async for event in gateway.stream(request, timeouts=timeouts)]


def text_of(events: list[StreamEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def end_of(events: list[StreamEvent]) -> Finished:
    ends = [event for event in events if isinstance(event, Finished)]
    assert len(ends) == 1, "a stream has exactly one last event"
    assert events[-1] is ends[0]
    return ends[0]
