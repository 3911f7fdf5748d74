"""What the rate limiter costs, and where its ceiling is: `python -m loadtests.limiter [seconds]`.

Real clients against a Valkey of its own: each call is counted for a user, a tenant and the platform, with tokens to
be corrected later. Prints a table; docs/limits.md has one.
"""

from __future__ import annotations

import multiprocessing
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psutil
from redis import Redis

from chatplatform import embedded
from chatplatform.ratelimit import Level, Limiter
from chatplatform.ratelimit.limiter import ADMIT

PLENTY = 10**12
HEADER = "| calls | processes | at once | a second | client, µs CPU | script, µs | Valkey, µs CPU | at a full core |"
TENANTS, USERS = 100, 100


@dataclass(frozen=True)
class Kind:
    """One load: how many processes call, on how many connections at the same time, and the limits they meet."""

    name: str
    processes: int
    at_once: int = 1
    requests: int = PLENTY
    tokens: int = PLENTY
    correct: bool = False


KINDS = [
    Kind("passed", 1),
    Kind("passed", 4),
    Kind("passed", 2, at_once=64),
    Kind("passed and corrected", 4, correct=True),
    Kind("refused (requests)", 2, at_once=64, requests=20),
    Kind("refused (tokens)", 2, at_once=64, tokens=30_000),
]


def levels(tenant: UUID, user: int, kind: Kind) -> list[Level]:
    return [
        Level("user", f"cp:{tenant}:rate:user:{user}", PLENTY),
        Level("tenant", f"cp:{tenant}:rate:tenant", kind.requests, kind.tokens),
        Level("global", "cp:platform:rate:global", PLENTY, PLENTY),
    ]


class Wire:
    """Stands where the client does, and keeps what would be sent."""

    def evalsha(self, *command: Any) -> list[int]:
        self.command = command
        return [0] * 15


def call(url: str, kind: Kind, until: float, answers: Any) -> None:
    """One process of callers."""
    calls, cpu, one_round = 0, time.process_time(), alone if kind.at_once == 1 else together
    with Redis.from_url(url, protocol=2) as client:
        connections = [client.connection_pool.get_connection() for _ in range(kind.at_once)]
        while time.monotonic() < until:
            calls += one_round(client, connections, kind)
    answers.put((calls, time.process_time() - cpu))


def alone(client: Any, connections: Any, kind: Kind) -> int:
    """A call as the platform makes it, which waits for its answer."""
    limiter, counted, key = Limiter(client), *someone(kind)
    limiter.admit(counted, tokens=1500, call=key)
    if kind.correct:
        limiter.correct(counted[1:], key, 700)
    return 1


def together(client: Any, connections: Any, kind: Kind) -> int:
    """The same command on many connections, before any answer is waited for."""
    wire: Any = Wire()
    for connection in connections:
        counted, key = someone(kind)
        Limiter(wire).admit(counted, tokens=1500, call=key)
        connection.send_command("EVALSHA", *wire.command)
    for connection in connections:
        connection.read_response()
    return len(connections)


def someone(kind: Kind) -> tuple[list[Level], str]:
    tenant, user = UUID(int=random.randrange(TENANTS)), random.randrange(USERS)
    return levels(tenant, user, kind), f"cp:{tenant}:rate:call:{uuid4()}"


def measure(url: str, kind: Kind, seconds: float) -> str:
    client: Any = Redis.from_url(url)
    client.flushall()
    client.script_load(ADMIT.text)
    server = psutil.Process(client.info("server")["process_id"])
    answers: Any = multiprocessing.Queue()
    run(url, kind, seconds / 2, answers)  # fills the windows
    client.config_resetstat()
    before = sum(server.cpu_times()[:2])
    calls, cpu = run(url, kind, seconds, answers)
    spent = sum(server.cpu_times()[:2]) - before
    script = client.info("commandstats")["cmdstat_evalsha"]["usec"]
    figures = calls / seconds, cpu / calls * 1e6, script / calls, spent / calls * 1e6, calls / spent
    shown = " | ".join(f"{figure:,.0f}" for figure in figures)
    return f"| {kind.name} | {kind.processes} | {kind.at_once} | {shown} |"


def run(url: str, kind: Kind, seconds: float, answers: Any) -> tuple[int, float]:
    until = time.monotonic() + seconds
    callers = [
        multiprocessing.Process(target=call, args=(url, kind, until, answers)) for _ in range(kind.processes)
    ]
    for caller in callers:
        caller.start()
    found = [answers.get() for _ in callers]
    for caller in callers:
        caller.join()
    return sum(calls for calls, _ in found), sum(cpu for _, cpu in found)


def main(seconds: float) -> None:
    with tempfile.TemporaryDirectory() as place, embedded.ensure(Path(place), ["valkey"]) as servers:
        print(HEADER)
        print("|---|---:|---:|---:|---:|---:|---:|---:|")
        for kind in KINDS:
            print(measure(servers.where.redis_url, kind, seconds))


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 6.0)
