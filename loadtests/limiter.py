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

PLENTY = 10**12
HEADER = (
    "| calls | processes | a second | client, µs CPU | script, µs | Valkey, µs CPU | per s of Valkey's CPU |"
)
TENANTS, USERS = 100, 100


@dataclass(frozen=True)
class Kind:
    """One load: how many processes call, and the limits they meet."""

    name: str
    processes: int
    requests: int = PLENTY
    tokens: int = PLENTY
    correct: bool = False


KINDS = [
    Kind("passed", 1),
    Kind("passed", 2),
    Kind("passed", 4),
    Kind("passed and corrected", 2, correct=True),
    Kind("refused (requests)", 2, requests=20),
    Kind("refused (tokens)", 2, tokens=30_000),
]


def levels(tenant: UUID, user: int, kind: Kind) -> list[Level]:
    return [
        Level("user", f"cp:{tenant}:rate:user:{user}", PLENTY),
        Level("tenant", f"cp:{tenant}:rate:tenant", kind.requests, kind.tokens),
        Level("global", "cp:platform:rate:global", PLENTY, PLENTY),
    ]


def call(url: str, kind: Kind, until: float, answers: Any) -> None:
    """One process of callers, one call after the other."""
    limiter = Limiter(Redis.from_url(url, protocol=2))
    tenants = [UUID(int=number) for number in range(TENANTS)]
    cpu, calls = time.process_time(), 0
    while time.monotonic() < until:
        counted = levels(random.choice(tenants), random.randrange(USERS), kind)
        key = f"cp:rate:call:{uuid4()}"
        limiter.admit(counted, tokens=1500, call=key)
        if kind.correct:
            limiter.correct(counted[1:], key, 700)
        calls += 1
    answers.put((calls, time.process_time() - cpu))


def measure(url: str, kind: Kind, seconds: float) -> str:
    client: Any = Redis.from_url(url)
    client.flushall()
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
    return f"| {kind.name} | {kind.processes} | {shown} |"


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
        print(
            "| calls | processes | a second | client, µs CPU | script, µs | Valkey, µs CPU | a second of Valkey's CPU |"
        )
        print("|---|---:|---:|---:|---:|---:|---:|")
        for kind in KINDS:
            print(measure(servers.where.redis_url, kind, seconds))


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 6.0)
