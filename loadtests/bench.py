"""`make bench`: what the platform adds to the provider's own time. Prints a table and keeps it as JSON.

Servers, web server, worker, beat and simulator run as separate processes, with a DATA_DIR of their own; this process
is the clients. Each load goes straight to the simulator first and through the platform then, in the same run, so
that a slow machine shows in both. A figure never fails the run; a lost or doubled token is counted and shown.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from loadtests.figures import Row, percentile, summed_up, table

if TYPE_CHECKING:
    from chatplatform.testing.live import Live

ROOT = Path(__file__).resolve().parent.parent
TTFT, TPS = 0.2, 30.0
CLIENTS = 32
HEADS = "load|first token p50|p95|tokens/s|of direct|late p50|p95|CPU web|worker|faulty".split("|")
# As shipped, but for the provider's address.
SHIPPED = {
    "RECONCILE_EVERY": "3",
    "LEASE_SECONDS": "6",
    "INTER_TOKEN_TIMEOUT": "20",
    "LOG_LEVEL": "WARNING",
}


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="chatplatform-bench.") as data_dir, ExitStack() as stack:
        live = _start(Path(data_dir), options, stack)
        began = time.monotonic()
        result = asyncio.run(_measure(live, options))
        result["seconds"] = round(time.monotonic() - began, 1)
    print(_as_text(result))
    folder = ROOT / "bench-results"
    folder.mkdir(exist_ok=True)
    file = folder / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    file.write_text(json.dumps(result, indent=1))
    print(f"\nKept as {file.relative_to(ROOT)}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter replies, under 45 s")
    parser.add_argument("--streams", default="1,50,200", help="numbers of concurrent streams (%(default)s)")
    parser.add_argument("--tokens", type=int, default=0, help="tokens of a reply (150; 60 if quick)")
    parser.add_argument("--over", default="ws", help="ws, sse, or both with a comma (%(default)s)")
    parser.add_argument("--server", default="daphne", choices=["daphne", "uvicorn"])
    parser.add_argument("--no-turns", action="store_true", help="leave out the complete turns per second")
    options = parser.parse_args()
    options.tokens = options.tokens or (60 if options.quick else 150)
    options.streams = [int(count) for count in options.streams.split(",")]
    options.over = options.over.split(",")
    return options


def _start(data_dir: Path, options: argparse.Namespace, stack: ExitStack) -> Live:
    """Everything, ready. The environment comes first: settings read it once."""
    for name in ("DATABASE_URL", "DATABASE_ADMIN_URL", "REDIS_URL", "OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        os.environ.pop(name, None)
    os.environ.update(
        DATA_DIR=str(data_dir), DJANGO_SETTINGS_MODULE="chatplatform.settings", LOG_LEVEL="WARNING"
    )
    import django

    django.setup()
    from chatplatform import embedded
    from chatplatform.testing import cast
    from chatplatform.testing.live import running_platform
    from chatplatform.testing.simulator.runner import simulator_process

    stack.enter_context(embedded.ensure(data_dir))
    cast.prepare()
    pace = ("--ttft", str(TTFT), "--tokens-per-second", str(TPS), "--tokens", str(options.tokens))
    simulator = stack.enter_context(simulator_process(*pace))
    return stack.enter_context(running_platform(options.server, simulator=simulator, environment=SHIPPED))


async def _measure(live: Live, options: argparse.Namespace) -> dict[str, Any]:
    from loadtests import load

    rows: list[dict[str, Any]] = []
    turns: dict[str, Any] = {}
    async with load.session() as http:
        ways = {"ws": load.OverWebSocket, "sse": load.OverSse}
        # So that everything is loaded, and connected, before it is measured.
        await load.at_once(4, load.OverWebSocket(http, live, "sim-tokens=5,ttft=0"))
        for count in options.streams:
            reader: load.Reader = load.Direct(http, live.simulator.openai_url, "sim-bench")
            direct, _ = await _run(live, "direct", count, reader, options)
            rows.append({**asdict(direct), "of_direct": 1.0})
            for way in options.over:
                row, cpu = await _run(live, way, count, ways[way](http, live, "sim-bench"), options)
                ratio = row.tokens_per_second / direct.tokens_per_second
                rows.append({**asdict(row), **cpu, "of_direct": ratio})
        if not options.no_turns:
            turns = _turns(
                await load.turns(
                    http, live, "sim-tokens=50,tps=0,ttft=0", CLIENTS, 4.0 if options.quick else 10.0
                )
            )
    about = {
        "machine": _machine(),
        "server": options.server,
        "tokens": options.tokens,
        "ttft": TTFT,
        "tps": TPS,
    }
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return {"at": at, **about, "rows": rows, "turns": turns}


async def _run(
    live: Live, way: str, count: int, read: Any, options: argparse.Namespace
) -> tuple[Row, dict[str, float]]:
    from loadtests import load

    await asyncio.to_thread(live.simulator.control, reset=True)
    before = _cpu(live)
    streams = await load.at_once(count, read)
    after = _cpu(live)
    requests = await asyncio.to_thread(live.simulator.requests)
    began = {request["body"]["messages"][-1]["content"]: request["at"] for request in requests}
    row = summed_up(way, streams, options.tokens, began, TTFT, TPS)
    thousands = sum(len(stream.arrivals) for stream in streams) / 1000 or float("nan")
    print(f"{count:>4} {way}: {len(streams) - row.faulty} right", file=sys.stderr, flush=True)
    return row, {f"{name}_cpu": 1000 * (after[name] - before[name]) / thousands for name in after}


def _turns(found: dict[str, Any]) -> dict[str, Any]:
    return {
        "clients": CLIENTS,
        "per_second": len(found["took"]) / found["seconds"],
        "p50": percentile(found["took"], 50),
        "p95": percentile(found["took"], 95),
        "failed": len(found["failed"]),
    }


def _cpu(live: Live) -> dict[str, float]:
    """Seconds of CPU that web server and worker have used so far."""
    names = {
        "web": next(name for name in live.processes if name in ("daphne", "uvicorn")),
        "worker": "worker",
    }
    times = {name: psutil.Process(live.processes[process].pid).cpu_times() for name, process in names.items()}
    return {name: used.user + used.system for name, used in times.items()}


def _machine() -> str:
    memory = psutil.virtual_memory().total / 2**30
    where = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} cores, {memory:.0f} GB, {where}"


def _as_text(result: dict[str, Any]) -> str:
    pace = f"{result['tps']:g} tokens/s, first token after {1000 * result['ttft']:g} ms"
    lines = [
        f"{result['machine']}; {result['server']}; {result['tokens']}-token replies at {pace}",
        "",
        table(HEADS, [_cells(row) for row in result["rows"]]),
        "",
        "late: arrival of each token after the simulator's own schedule. CPU: ms per 1,000 tokens.",
    ]
    for row in result["rows"]:
        lines += [f"{row['streams']} {row['way']}: {fault}" for fault in row["faults"]]
    if turns := result["turns"]:
        lines.append(
            f"Complete turns of 50 tokens, {turns['clients']} clients over REST: {turns['per_second']:.0f} a second, "
            f"p50 {turns['p50']:.0f} ms, p95 {turns['p95']:.0f} ms, {turns['failed']} failed"
        )
    return "\n".join(lines)


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        f"{row['streams']} {row['way']}",
        f"{row['first_p50']:.0f} ms",
        f"{row['first_p95']:.0f} ms",
        f"{row['tokens_per_second']:.0f}",
        f"{row['of_direct']:.2f}",
        f"{row['late_p50']:.0f} ms",
        f"{row['late_p95']:.0f} ms",
        f"{row['web_cpu']:.0f}" if "web_cpu" in row else "",
        f"{row['worker_cpu']:.0f}" if "worker_cpu" in row else "",
        str(row["faulty"]),
    ]


if __name__ == "__main__":
    main()
