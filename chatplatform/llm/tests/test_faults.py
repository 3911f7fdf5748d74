"""Each fault of a provider becomes the right error, quickly, and says nothing that it should not."""

from __future__ import annotations

import asyncio
import pickle
import socket
import time

import pytest

from chatplatform.llm import errors
from chatplatform.llm.config import GatewayConfig
from chatplatform.llm.gateway import Gateway
from chatplatform.llm.types import Timeouts
from chatplatform.testing.simulator import Simulator

from .asking import PROVIDERS, ask, collect
from .conftest import KEYS

SHORT = Timeouts(first_token=0.25, inter_token=0.12, total=0.4)

FAULTS: list[tuple[str, type[errors.ProviderError], type[errors.ProviderError], int | None]] = [
    ("rate_limit", errors.RateLimited, errors.RateLimited, 429),
    ("error", errors.ServerError, errors.ServerError, 500),
    ("unavailable", errors.Overloaded, errors.Overloaded, 503),
    ("overloaded", errors.Overloaded, errors.Overloaded, 529),
    ("overloaded_inside", errors.Overloaded, errors.Overloaded, None),
    ("unauthorized", errors.AuthenticationFailed, errors.AuthenticationFailed, 401),
    ("bad_request", errors.BadRequest, errors.BadRequest, 400),
    ("content_filter", errors.ContentFiltered, errors.ContentFiltered, 400),
    ("redirect", errors.MalformedResponse, errors.MalformedResponse, 307),
    ("drop@3", errors.ConnectionLost, errors.ConnectionLost, None),
    ("drop@0", errors.ConnectionLost, errors.ConnectionLost, None),
    ("truncate@3", errors.Truncated, errors.MalformedResponse, None),
    ("truncate@0", errors.Truncated, errors.MalformedResponse, None),
    ("malformed@3", errors.MalformedResponse, errors.MalformedResponse, None),
    ("stall@3", errors.ProviderTimeout, errors.ProviderTimeout, None),
    ("stall@0", errors.ProviderTimeout, errors.ProviderTimeout, None),
    ("keepalive@3", errors.ProviderTimeout, errors.ProviderTimeout, None),
]
NOT_RETRYABLE = ("unauthorized", "bad_request", "content_filter", "redirect")


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
@pytest.mark.parametrize(("fault", "streaming", "whole", "status"), FAULTS)
async def test_a_fault_becomes_its_error(
    gateway: Gateway,
    simulator: Simulator,
    provider: str,
    fault: str,
    streaming: type[errors.ProviderError],
    whole: type[errors.ProviderError],
    status: int | None,
) -> None:
    request = ask(f"{provider}/sim-tokens=10,fault={fault}", "PRIVATE-PROMPT")
    silent = fault.startswith(("stall", "keepalive"))
    begin = time.monotonic()
    with pytest.raises(errors.ProviderError) as streamed:
        await collect(gateway, request, SHORT if silent else None)
    with pytest.raises(errors.ProviderError) as fetched:
        await gateway.complete(request, timeouts=Timeouts(total=0.15) if silent else None)
    assert time.monotonic() - begin < 3
    assert (type(streamed.value), type(fetched.value)) == (streaming, whole)
    for error in (streamed.value, fetched.value):
        assert error.status == status
        assert (error.provider, error.model) == (provider, f"sim-tokens=10,fault={fault}")
        assert error.retryable is (fault not in NOT_RETRYABLE)
        _assert_discreet(error, KEYS[provider])
    assert simulator.stats()["requests"] == 2, "nothing is retried and no redirect followed"


def _assert_discreet(error: errors.ProviderError, key: str) -> None:
    said = f"{error} {error!r} {vars(error)}"
    assert key not in said
    assert "PRIVATE" not in said
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_retry_after_is_in_seconds(gateway: Gateway, provider: str) -> None:
    with pytest.raises(errors.RateLimited) as caught:
        await gateway.complete(ask(f"{provider}/sim-retry_after=2.5,fault=rate_limit"))
    assert caught.value.retry_after == 2.5


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
async def test_each_deadline_has_its_phase(gateway: Gateway, provider: str) -> None:
    cases = {
        "ttft=60": ("first_token", Timeouts(0.15, 5, 10)),
        "fault=stall@2": ("inter_token", Timeouts(5, 0.15, 10)),
        "tps=20,tokens=500": ("total", Timeouts(5, 5, 0.3)),
    }
    for directive, (phase, timeouts) in cases.items():
        with pytest.raises(errors.ProviderTimeout) as caught:
            await collect(gateway, ask(f"{provider}/sim-{directive}"), timeouts)
        assert caught.value.phase == phase


async def test_keep_alive_comments_before_the_first_token_do_not_help(gateway: Gateway) -> None:
    begin = time.monotonic()
    with pytest.raises(errors.ProviderTimeout) as caught:
        await collect(gateway, ask("sim-fault=keepalive@0"), SHORT)
    assert caught.value.phase == "first_token"
    assert time.monotonic() - begin < 3


async def test_a_slow_reader_is_not_a_slow_provider(gateway: Gateway) -> None:
    seen = 0
    async for _ in gateway.stream(ask("sim-tokens=2,tps=20"), timeouts=Timeouts(5, 0.3, 10)):
        seen += 1
        await asyncio.sleep(0.35)
    assert seen == 3


async def test_comments_between_tokens_do_not_keep_a_stream_alive(gateway: Gateway) -> None:
    begin = time.monotonic()
    with pytest.raises(errors.ProviderTimeout) as caught:
        await collect(gateway, ask("sim-tokens=10,fault=keepalive@2"), Timeouts(5, 0.2, 10))
    assert caught.value.phase == "inter_token"
    assert 0.2 <= time.monotonic() - begin < 3


async def test_a_deadline_of_its_own_for_each_token(gateway: Gateway) -> None:
    events = await collect(gateway, ask("sim-tokens=12,tps=20"), Timeouts(5, 0.3, 10))
    assert len(events) == 13, "0.6 s in all, and never 0.3 s between two"


async def test_the_total_is_kept_while_tokens_flow_to_a_slow_reader(gateway: Gateway) -> None:
    begin = time.monotonic()
    with pytest.raises(errors.ProviderTimeout) as caught:
        async for _ in gateway.stream_batches(ask("sim-tokens=5000,tps=100"), timeouts=Timeouts(5, 5, 0.4)):
            await asyncio.sleep(0.03)
    assert caught.value.phase == "total"
    assert 0.4 <= time.monotonic() - begin < 3


async def test_a_deadline_leaves_no_cancellation_behind(gateway: Gateway) -> None:
    task = asyncio.current_task()
    assert task is not None
    with pytest.raises(errors.ProviderTimeout):
        await collect(gateway, ask("sim-fault=stall@2"), SHORT)
    assert task.cancelling() == 0
    await asyncio.sleep(SHORT.total)


async def test_who_cancels_a_stream_is_not_told_of_a_deadline(gateway: Gateway) -> None:
    """Also where both happen at once."""
    due = asyncio.get_running_loop().time() + 0.3
    task = asyncio.create_task(collect(gateway, ask("sim-ttft=60"), Timeouts(0.3, 5, 10)))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_at(due, task.cancel)
    with pytest.raises((asyncio.CancelledError, errors.ProviderTimeout)) as caught:
        await task
    assert caught.type is asyncio.CancelledError


async def test_the_text_before_a_fault_was_delivered(gateway: Gateway) -> None:
    seen = []
    with pytest.raises(errors.Truncated):
        async for event in gateway.stream(ask("sim-tokens=10,fault=truncate@4")):
            seen.append(event)
    assert len(seen) == 4


async def test_a_refused_connection_is_lost_not_late() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        config = GatewayConfig(openai_base_url=f"{url}/v1", anthropic_base_url=url, llama_endpoint=url)
        async with Gateway(config) as gateway:
            for provider in PROVIDERS:
                with pytest.raises(errors.ConnectionLost) as caught:
                    await gateway.complete(ask(f"{provider}/sim-fast"))
                assert not caught.value.sent


async def test_a_gateway_works_again_after_a_fault(gateway: Gateway, simulator: Simulator) -> None:
    simulator.control(faults=["drop@1", "error"])
    for _ in range(2):
        with pytest.raises(errors.ProviderError):
            await collect(gateway, ask("sim-fast"))
    assert await collect(gateway, ask("sim-fast"))


def test_an_error_survives_pickling() -> None:
    error = errors.RateLimited("slow_down", provider="openai", model="m", status=429, retry_after=3.0)
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error) == "openai/m: rate_limited (HTTP 429): slow_down"
    assert (copy.retry_after, copy.retryable, copy.kind) == (3.0, True, errors.ErrorKind.RATE_LIMITED)


def test_a_used_up_quota_is_not_worth_a_retry() -> None:
    from chatplatform.llm.providers.failures import from_status
    from chatplatform.llm.types import ModelRef

    body = {"error": {"code": "insufficient_quota", "message": "no"}}
    error = from_status(429, {"retry-after": "Wed, 21 Oct 2099 07:28:00 GMT"}, body, ModelRef("openai", "m"))
    assert isinstance(error, errors.RateLimited)
    assert not error.retryable
    assert error.retry_after is not None
    assert error.retry_after > 1_000_000
