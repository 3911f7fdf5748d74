"""The gateway against the simulator, through the real SDKs, over real sockets."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from chatplatform.llm.config import GatewayConfig
from chatplatform.llm.errors import ModelUnknown, NotConfigured
from chatplatform.llm.gateway import Gateway
from chatplatform.llm.types import (
    ChatMessage,
    Finished,
    FinishReason,
    Passage,
    TextDelta,
    ToolCall,
    ToolSpec,
    Usage,
)
from chatplatform.testing.simulator import Simulator

from .asking import PROVIDERS, ask, collect, end_of, text_of

TOOL = ToolSpec("look_up", "Look up an order", {"type": "object", "properties": {"id": {"type": "integer"}}})


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_stream_and_a_whole_answer_say_the_same(gateway: Gateway, provider: str) -> None:
    request = ask(f"{provider}/sim-tokens=20", "Where is my parcel?", system="You help.")
    events = await collect(gateway, request)
    whole = await gateway.complete(request)
    assert text_of(events) == whole.text
    assert whole.text.startswith("You asked: Where is my parcel? ")
    assert sum(isinstance(event, TextDelta) for event in events) == 20
    assert end_of(events) == Finished(FinishReason.STOP, Usage(6, 0, 0, 20), usage_estimated=False)
    assert (whole.usage, whole.usage_estimated) == (Usage(6, 0, 0, 20), False)
    assert (whole.provider, whole.model) == (provider, "sim-tokens=20")


@pytest.mark.parametrize("provider", [*PROVIDERS, "local"])
async def test_what_arrives_together_is_handed_over_together(gateway: Gateway, provider: str) -> None:
    passage = Passage("Parcels", "They take two days. " * 20, "d1", 1.0)
    request = ask("local" if provider == "local" else f"{provider}/sim-tokens=200", passages=(passage,))
    batches = [batch async for batch in gateway.stream_batches(request)]
    assert [event for batch in batches for event in batch] == await collect(gateway, request)
    assert all(batches), "no batch is empty"
    assert len(batches) < sum(map(len, batches)) / 4


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_output_limit_reaches_the_provider(gateway: Gateway, provider: str) -> None:
    request = ask(f"{provider}/sim-tokens=20", max_tokens=5)
    end = end_of(await collect(gateway, request))
    whole = await gateway.complete(request)
    assert (end.finish_reason, end.usage.output_tokens) == (FinishReason.LENGTH, 5)
    assert whole.finish_reason is FinishReason.LENGTH


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_cached_tokens_are_inside_the_input(gateway: Gateway, provider: str) -> None:
    written = 20 if provider == "anthropic" else 0
    request = ask(f"{provider}/sim-cached=100,cache_write={written}", "one two three")
    end = end_of(await collect(gateway, request))
    own = 3 if provider == "anthropic" else 0
    expected = (100 + written + own, 100, written)
    for usage in (end.usage, (await gateway.complete(request)).usage):
        assert (usage.input_tokens, usage.cached_input_tokens, usage.cache_write_input_tokens) == expected


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_usage_that_never_comes_is_estimated(gateway: Gateway, provider: str) -> None:
    request = ask(f"{provider}/sim-tokens=40,fault=no_usage")
    end = end_of(await collect(gateway, request))
    whole = await gateway.complete(request)
    assert end.usage_estimated
    assert whole.usage_estimated
    assert 20 < end.usage.output_tokens < 80
    assert end.usage == whole.usage


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_an_answer_that_was_complete_is_not_lost_at_its_end(
    gateway: Gateway, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatplatform.llm.providers.sse.USAGE_GRACE", 0.1)
    events = await collect(gateway, ask(f"{provider}/sim-tokens=10,fault=stall_at_end"))
    assert sum(isinstance(event, TextDelta) for event in events) == 10
    assert end_of(events).usage_estimated is (provider != "anthropic")


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_tool_calls_arrive_whole(gateway: Gateway, provider: str) -> None:
    directive = "[[sim: tool=look_up arguments='{\"id\":42}']]"
    request = ask(f"{provider}/sim-fast", f"Where is order 42? {directive}", tools=(TOOL,))
    end = end_of(await collect(gateway, request))
    whole = await gateway.complete(request)
    assert end.finish_reason is whole.finish_reason is FinishReason.TOOL_CALLS
    assert [(call.name, call.arguments) for call in end.tool_calls] == [("look_up", '{"id":42}')]
    assert [(call.name, call.arguments) for call in whole.tool_calls] == [("look_up", '{"id":42}')]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_tool_result_goes_back(gateway: Gateway, simulator: Simulator, provider: str) -> None:
    call = ToolCall("c1", "look_up", "{}")
    messages = (
        ChatMessage("user", "Where?"),
        ChatMessage("assistant", "", (call,)),
        ChatMessage("tool", "At home.", tool_call_id="c1"),
    )
    request = ask(f"{provider}/sim-fast")
    await collect(gateway, type(request)(request.model, messages, tools=(TOOL,)))
    assert "At home." in str(simulator.requests()[-1]["body"]["messages"][-1])


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_text_survives_being_cut_anywhere(gateway: Gateway, provider: str) -> None:
    text = "Grüße 世界 👩‍👩‍👧 שלום"
    content = f'[[sim: chunk=7 text="{text}"]]'
    assert text_of(await collect(gateway, ask(f"{provider}/sim-fast", content))) == text


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_content_filter_is_a_finish_reason(gateway: Gateway, provider: str) -> None:
    events = await collect(gateway, ask(f"{provider}/sim-finish=content_filter"))
    assert end_of(events).finish_reason is FinishReason.CONTENT_FILTER


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_connections_are_reused(gateway: Gateway, simulator: Simulator, provider: str) -> None:
    for _ in range(4):
        # Cut into pieces, the end of the body comes later than the last event.
        await collect(gateway, ask(f"{provider}/sim-tokens=3,chunk=100"))
        await gateway.complete(ask(f"{provider}/sim-tokens=3"))
    assert simulator.stats()["connections"] == 1


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_closing_the_iterator_ends_the_request(
    gateway: Gateway, simulator: Simulator, provider: str
) -> None:
    async with aclosing(gateway.stream(ask(f"{provider}/sim-tps=50,tokens=5000"))) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                break
    assert await _settled(simulator) == (0, 1)


@pytest.mark.parametrize("phase", ["ttft=60", "tps=50,tokens=5000"])
async def test_cancelling_the_task_ends_the_request(
    gateway: Gateway, simulator: Simulator, phase: str
) -> None:
    task = asyncio.create_task(collect(gateway, ask(f"sim-{phase}")))
    await asyncio.sleep(0.15)
    assert simulator.stats()["active"] == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await _settled(simulator) == (0, 1)


async def _settled(simulator: Simulator) -> tuple[int, int]:
    """Active and cancelled requests, once the simulator has noticed."""
    for _ in range(50):
        stats = simulator.stats()
        if not stats["active"]:
            break
        await asyncio.sleep(0.02)
    return stats["active"], stats["cancelled"]


async def test_many_streams_at_once_stay_apart(gateway: Gateway) -> None:
    requests = [ask("sim-tokens=30,tps=300", f"question {number}") for number in range(40)]
    results = await asyncio.gather(*(collect(gateway, request) for request in requests))
    for number, events in enumerate(results):
        assert text_of(events).startswith(f"You asked: question {number} ")


@pytest.mark.parametrize("provider", ["openai", "llama"])
async def test_it_embeds_in_order_and_says_what_it_used(
    gateway: Gateway, simulator: Simulator, provider: str
) -> None:
    texts = [f"text number {number}" for number in range(300)]
    found = await gateway.embed(texts, f"{provider}/text-embedding-3-small")
    assert len(found.vectors) == 300
    assert all(len(vector) == 256 for vector in found.vectors)
    assert found.vectors[0] != found.vectors[1]
    assert found.usage == Usage(input_tokens=simulator.stats()["input_tokens"]) == Usage(900)
    assert [found.vectors[299]] == (await gateway.embed([texts[299]])).vectors
    assert len(simulator.requests()) == 2, "a call is one request"


async def test_embeddings_without_usage_say_so(gateway: Gateway, simulator: Simulator) -> None:
    simulator.control(faults=["no_usage"])
    assert (await gateway.embed(["text"])).usage is None


async def test_what_is_not_configured_says_so() -> None:
    async with Gateway(GatewayConfig()) as gateway:
        for model in ("gpt-4o-mini", "claude-haiku-5-5", "llama3.1"):
            with pytest.raises(NotConfigured, match=model):
                await gateway.complete(ask(model))
        with pytest.raises(ModelUnknown):
            await collect(gateway, ask("nonsense"))
        assert (await gateway.complete(ask("auto", "hello"))).provider == "local"


async def test_it_does_not_borrow_credentials_from_the_environment(
    gateway: Gateway, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token-of-the-environment")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    for provider in PROVIDERS:
        await gateway.complete(ask(f"{provider}/sim-fast"))
    assert simulator.stats()["completed"] == 3


def test_a_gateway_belongs_to_one_event_loop(config: GatewayConfig) -> None:
    gateway = Gateway(config)

    async def use() -> None:
        await gateway.complete(ask("sim-fast"))

    async def use_and_close() -> None:
        await use()
        await gateway._providers["openai"].aclose()

    asyncio.run(use_and_close())
    with pytest.raises(RuntimeError, match="event loop"):
        asyncio.run(use())
