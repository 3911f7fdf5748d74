from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from chatplatform.llm.config import GatewayConfig
from chatplatform.llm.gateway import Gateway
from chatplatform.llm.types import Timeouts
from chatplatform.testing.simulator import Simulator, running_simulator

KEYS = {"openai": "sk-openai-secret", "anthropic": "sk-ant-secret", "llama": "sk-llama-secret"}


@pytest.fixture(scope="session")
def shared_simulator() -> Iterator[Simulator]:
    # The deadlines of these tests are shorter than the import of an SDK.
    Gateway(GatewayConfig(openai_api_key="x", anthropic_api_key="x")).warm_up()
    with running_simulator() as simulator:
        yield simulator


@pytest.fixture
def simulator(shared_simulator: Simulator) -> Simulator:
    shared_simulator.control(reset=True)
    return shared_simulator


@pytest.fixture
def config(simulator: Simulator) -> GatewayConfig:
    return GatewayConfig(
        openai_api_key=KEYS["openai"],
        openai_base_url=simulator.openai_url,
        anthropic_api_key=KEYS["anthropic"],
        anthropic_base_url=simulator.anthropic_url,
        llama_endpoint=simulator.anthropic_url,
        llama_api_key=KEYS["llama"],
        local_tokens_per_second=0,
        timeouts=Timeouts(first_token=5, inter_token=5, total=10),
    )


@pytest.fixture
async def gateway(config: GatewayConfig) -> AsyncIterator[Gateway]:
    async with Gateway(config) as gateway:
        yield gateway
