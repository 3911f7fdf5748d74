"""`python -m loadtests.token_cost`: what a token, a call and a live stream cost a worker.

This process is the part of a worker that a token passes: gateway, writer, ticker. Provider simulator and Valkey are
real and run as processes of their own. Each token's delay counts from the simulator's own schedule to its append in
Valkey.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import tempfile
import time
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import orjson
import psutil
from django.conf import settings

from chatplatform import embedded, tenancy
from chatplatform.llm.config import GatewayConfig
from chatplatform.llm.gateway import Gateway
from chatplatform.llm.types import ChatMessage, CompletionRequest, TextDelta
from chatplatform.testing.simulator import Simulator, simulator_process
from conversations.streaming import event_log
from conversations.streaming.writer import ReplyWriter
from loadtests.figures import percentile

TTFT = 0.2
RAMP = 1.0  # s over which the streams begin
TENANT = tenancy.TenantRef(UUID("01900000-0000-7000-8000-0000000000aa"), "acme", "t_acme")
HISTORY = 20  # messages of a prompt, as many as a worker sends at most
SIMULATED = {"openai": "openai/sim-bench", "anthropic": "anthropic/sim-bench"}
THIS = psutil.Process()


@dataclass(slots=True)
class Reply:
    """One stream, and the text that its reader was given."""

    id: UUID
    text: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m loadtests.token_cost", description=__doc__)
    parser.add_argument("--streams", type=int, default=400)
    parser.add_argument("--tokens", type=int, default=150)
    parser.add_argument("--rate", type=float, default=30.0, help="tokens/s of a stream (%(default)s)")
    parser.add_argument("--provider", choices=SIMULATED, default="openai")
    parser.add_argument(
        "--calls", type=int, default=600, help="calls of 50 tokens without delay (%(default)s)"
    )
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="chatplatform-cost.") as data_dir,
        embedded.ensure(Path(data_dir), ["valkey"]) as servers,
        simulator_process() as simulator,
    ):
        settings.configure(EVENT_LOG_URL=servers.where.redis_url)
        asyncio.run(_measure(simulator, options))


async def _measure(simulator: Simulator, options: argparse.Namespace) -> None:
    config = GatewayConfig(
        openai_api_key="x",
        openai_base_url=simulator.openai_url,
        anthropic_api_key="x",
        anthropic_base_url=simulator.anthropic_url,
    )
    async with Gateway(config) as gateway:
        gateway.warm_up()
        with tenancy.in_tenant(TENANT):
            await _live(gateway, simulator, options)
            await _calls(gateway, simulator, options)


async def _live(gateway: Gateway, simulator: Simulator, options: argparse.Namespace) -> None:
    model = SIMULATED[options.provider]
    simulator.control(reset=True, ttft=TTFT, tps=options.rate, tokens=options.tokens)
    await _consume(gateway, model, Reply(uuid4()))
    simulator.control(reset=True, ttft=TTFT, tps=options.rate, tokens=options.tokens)
    replies = [Reply(uuid4()) for _ in range(options.streams)]
    gc.collect()
    memory, cpu = THIS.memory_full_info().uss, _cpu()
    running = []
    for reply in replies:
        running.append(asyncio.create_task(_consume(gateway, model, reply)))
        await asyncio.sleep(RAMP / len(replies))
    await asyncio.sleep(options.tokens / options.rate / 2)
    grown = THIS.memory_full_info().uss - memory
    await asyncio.gather(*running)
    spent = _cpu() - cpu
    thousands = options.streams * options.tokens / 1000
    late, appends = await _delays(simulator, replies, options.rate)
    print(
        f"{options.streams} streams of {options.tokens} tokens: "
        f"{1000 * spent / thousands:.1f} ms CPU per 1,000 tokens, {grown / len(replies) / 1000:.0f} kB a stream, "
        f"late p50 {percentile(late, 50):.0f} ms, p95 {percentile(late, 95):.0f} ms, "
        f"{len(late) / appends:.1f} tokens an append, "
        f"{simulator.stats()['connections']} connections",
        flush=True,
    )


async def _calls(gateway: Gateway, simulator: Simulator, options: argparse.Namespace) -> None:
    """Whole calls, 16 side by side."""
    simulator.control(reset=True, ttft=0, tps=0, tokens=50)
    waiting = iter(range(options.calls))

    async def one_after_the_other() -> None:
        for _ in waiting:
            await _consume(gateway, SIMULATED[options.provider], None)

    cpu, began = _cpu(), time.monotonic()
    await asyncio.gather(*(one_after_the_other() for _ in range(16)))
    print(
        f"{options.calls} calls of 50 tokens without delay: {1000 * (_cpu() - cpu) / options.calls:.2f} ms CPU a call, "
        f"{options.calls / (time.monotonic() - began):.0f} calls/s, {simulator.stats()['connections']} connections",
        flush=True,
    )


async def _consume(gateway: Gateway, model: str, reply: Reply | None) -> None:
    """Read one stream; with a reply, into its event log."""
    said = [
        ChatMessage("user" if n % 2 else "assistant", "So much was said. " * 5) for n in range(HISTORY - 1)
    ]
    said.append(ChatMessage("user", str(reply.id if reply else "Again?")))
    request = CompletionRequest(model, tuple(said), system="You help. " * 50, max_tokens=1000)
    writer = ReplyWriter(uuid4(), reply.id if reply else uuid4(), 1)
    if reply:
        writer.start(None)
    async with aclosing(gateway.stream_batches(request)) as batches:
        async for batch in batches:
            for event in batch:
                if isinstance(event, TextDelta):
                    writer.add(event.text)
    if reply:
        await writer.finish()
        reply.text = writer.text


async def _delays(simulator: Simulator, replies: list[Reply], rate: float) -> tuple[list[float], int]:
    """Milliseconds from each token's time in the simulator's schedule to its append, and the number of appends. Fails
    where a log is not the text."""
    to_wall_clock = time.time() - time.monotonic()
    requests = await asyncio.to_thread(simulator.requests)
    began = {
        request["body"]["messages"][-1]["content"]: request["at"] + to_wall_clock for request in requests
    }
    found: list[float] = []
    appends = 0
    for reply in replies:
        logged = ""
        for event in await event_log.read(reply.id) or []:
            appends += 1
            piece = orjson.loads(event.data)["text"]
            first, logged = logged.count(" ") + bool(logged), logged + piece
            at = int(event.cursor.partition("-")[0])
            due = began[str(reply.id)] + TTFT
            found += [at - 1000 * (due + n / rate) for n in range(first, logged.count(" ") + 1)]
        assert logged == reply.text, f"the log of {reply.id} is not its text"
    return found, appends


def _cpu() -> float:
    used = THIS.cpu_times()
    return used.user + used.system


if __name__ == "__main__":
    main()
