"""The simulator as a process: its options, shared by the module and the management command."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Callable

from .runner import Simulator, started
from .settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the options on any argparse parser."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=9009, help="0 picks a free one (%(default)s)")
    parser.add_argument("--ttft", type=float, default=0.2, help="seconds to the first token (%(default)s)")
    parser.add_argument(
        "--tokens-per-second",
        type=float,
        default=30.0,
        help="pace of an answer, 0 = no delay (%(default)s)",
    )
    parser.add_argument("--tokens", type=int, default=150, help="length of an answer (%(default)s)")
    parser.add_argument("--fault", default="", help="what goes wrong in every answer, e.g. drop@20")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def settings_from(options: argparse.Namespace) -> Settings:
    """Raises ``ValueError`` for an unknown fault."""
    return Settings().updated(
        {
            "ttft": options.ttft,
            "tps": options.tokens_per_second,
            "tokens": options.tokens,
            "fault": options.fault,
        }
    )


def run(options: argparse.Namespace, announce: Callable[[str], object]) -> int:
    """Serve until SIGINT or SIGTERM. Returns the exit code: 0, 1 for a busy port, 2 for a bad option."""
    try:
        asyncio.run(_serve(options, announce))
    except ValueError as exc:
        print(f"error: {exc}", file=sys.stderr)  # noqa: T201
        return 2
    except OSError as exc:
        print(f"error: cannot listen on {options.host}:{options.port}: {exc.strerror}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


async def _serve(options: argparse.Namespace, announce: Callable[[str], object]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Only the main thread may do this.
        with contextlib.suppress(RuntimeError, ValueError):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with started(settings_from(options), host=options.host, port=options.port) as simulator:
        announce(_as_json(simulator) if options.json else _as_text(simulator))
        await stop.wait()


def _as_json(simulator: Simulator) -> str:
    urls = {"openai_base_url": simulator.openai_url, "anthropic_base_url": simulator.anthropic_url}
    return json.dumps({"port": simulator.port, **urls})


def _as_text(simulator: Simulator) -> str:
    return (
        f"OPENAI_BASE_URL={simulator.openai_url}\n"
        f"ANTHROPIC_BASE_URL={simulator.anthropic_url}\n"
        f"control: {simulator.anthropic_url}/_control"
    )
