"""What goes wrong, and when: all of it out of one seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random

WEB_SERVERS = ("daphne", "uvicorn")
QUIET_START, QUIET_END = 1.5, 2.0  # s without new faults at both ends of the time that they have


class Kind(StrEnum):
    """All that can go wrong. What lasts has its seconds in `Fault.lasts`."""

    KILL_WORKER = "kill -9 of a worker"
    PAUSE_WORKER = "a worker is paused for longer than a lease"
    STOP_WORKER = "SIGTERM of a worker"
    KILL_WEB = "kill -9 of the web server"
    STOP_WEB = "SIGTERM of the web server"
    KILL_BEAT = "kill -9 of beat"
    RESTART_VALKEY = "Valkey is restarted"
    KILL_VALKEY = "kill -9 of Valkey"
    FLUSH_VALKEY = "FLUSHALL of Valkey"
    PAUSE_VALKEY = "Valkey is paused"
    RESTART_POSTGRES = "PostgreSQL is restarted (fast)"
    HALT_POSTGRES = "PostgreSQL is stopped at once (immediate)"
    KILL_POSTGRES = "kill -9 of PostgreSQL"
    CUT = "the network resets connections"
    STALL = "the network stalls"
    HALF_CLOSE = "the network closes one direction of connections"
    PROVIDER_OUTAGE = "the provider fails for a while"
    PROVIDER_HICCUPS = "a few calls of the provider fail"


NETWORK = (Kind.CUT, Kind.STALL, Kind.HALF_CLOSE)
WORKERS = ("worker", "worker-2")
OUTAGES = ("rate_limit", "error", "unavailable", "overloaded")
HICCUPS = ("drop@8", "truncate@10", "stall@6", "malformed@5", "overloaded_inside@4", *OUTAGES)
# Seconds: a lease lasts 2 on the stage, a good client notices a dead connection after 4.
LASTING: dict[Kind, tuple[float, float]] = {
    Kind.PAUSE_WORKER: (2.5, 4.5),
    Kind.RESTART_VALKEY: (0.2, 2.0),
    Kind.KILL_VALKEY: (0.2, 2.0),
    Kind.PAUSE_VALKEY: (1.0, 4.0),
    Kind.RESTART_POSTGRES: (0.2, 2.5),
    Kind.HALT_POSTGRES: (0.2, 1.5),
    Kind.KILL_POSTGRES: (0.2, 1.5),
    Kind.STALL: (1.0, 5.0),
    Kind.PROVIDER_OUTAGE: (1.0, 3.0),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, `at` seconds after the start. `target` is a worker, or the provider's fault; `share` the part of
    the connections that is hit."""

    at: float
    kind: Kind
    lasts: float = 0.0
    target: str = ""
    share: float = 1.0

    def __str__(self) -> str:
        more = [self.target] if self.target else []
        more += [f"for {self.lasts:.1f} s"] if self.lasts else []
        more += [f"{self.share:.0%} of the connections"] if self.kind in NETWORK else []
        return f"{self.at:5.1f} s  {self.kind}" + (f" ({', '.join(more)})" if more else "")


@dataclass(frozen=True, slots=True)
class Plan:
    """One run. `seconds` is how long faults may happen; after that everything has to settle."""

    seed: int
    web_server: str
    seconds: float
    faults: tuple[Fault, ...]


def draw(seed: int, seconds: float) -> Plan:
    """The plan of a seed: the same seed and seconds give the same plan."""
    random = Random(seed)
    web_server = random.choice(WEB_SERVERS)
    kinds, faults, at = _dealt(random, tuple(Kind)), [], QUIET_START
    while at < seconds - QUIET_END:
        faults.append(_fault(random, at, next(kinds)))
        at += random.uniform(0.7, 3.3)
    return Plan(seed, web_server, seconds, tuple(faults))


def _dealt(random: Random, kinds: Sequence[Kind]) -> Iterator[Kind]:
    """The kinds in a random order without end, like cards: each comes once before one comes again."""
    while True:
        yield from random.sample(kinds, len(kinds))


def _fault(random: Random, at: float, kind: Kind) -> Fault:
    lasts = random.uniform(*LASTING[kind]) if kind in LASTING else 0.0
    targets: Sequence[str] = ("",)
    if kind in (Kind.KILL_WORKER, Kind.PAUSE_WORKER, Kind.STOP_WORKER):
        targets = WORKERS
    elif kind is Kind.PROVIDER_OUTAGE:
        targets = OUTAGES
    elif kind is Kind.PROVIDER_HICCUPS:
        targets = HICCUPS
    share = random.choice((0.3, 0.6, 1.0)) if kind in NETWORK else 1.0
    return Fault(at, kind, lasts, random.choice(targets), share)
