"""One run of one seed: the stage, the clients, the faults, and the proof at the end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random

from chatplatform.testing.faults import logs
from chatplatform.testing.faults.breaking import Breaker
from chatplatform.testing.faults.checker import OPENS_AFTER, Wrong, check
from chatplatform.testing.faults.collecting import collect
from chatplatform.testing.faults.history import Evidence
from chatplatform.testing.faults.network import running_network
from chatplatform.testing.faults.schedule import Plan
from chatplatform.testing.faults.talking import Talker
from chatplatform.testing.faults.visitors import Patient, Streaming, Surroundings, Visitor
from chatplatform.testing.stage import Stage, running_stage

SETTLED_WITHIN = 40.0  # s after the last fault
TENANTS = ("acme", "globex")
CAST: tuple[type[Visitor], ...] = (Talker, Streaming, Talker, Patient)  # each for both tenants
ENVIRONMENT = {
    "MAX_ATTEMPTS": "5",
    # Short, so that a provider that has fallen silent costs little time; long enough for a busy machine.
    "FIRST_TOKEN_TIMEOUT": "15",
    "INTER_TOKEN_TIMEOUT": "8",
    "TOTAL_TIMEOUT": "60",
    # The circuit opens in a provider's outage, and soon closes again: most of a run has to be about replies.
    "BREAKER_LEAST_CALLS": str(2 * OPENS_AFTER),
    "BREAKER_FAILURE_RATE": "0.5",
    "BREAKER_OPEN_SECONDS": "2",
}


@dataclass
class Result:
    """What a run showed. `seconds` are wall time, the start of the stage included."""

    plan: Plan
    evidence: Evidence
    wrong: list[Wrong]
    diary: list[str]
    seconds: float = 0.0
    settled_after: float = 0.0
    began: float = 0.0  # monotonic, of the schedule

    @property
    def line(self) -> str:
        """The run in one line."""
        statuses = Counter(reply.status for reply in self.evidence.stored)
        sittings = sum(max(0, len(view.sittings) - 1) for view in self.evidence.views)
        resets = sum(event.kind == "reset" for view in self.evidence.views for event in view.events)
        again = sum(reply.attempt > 1 for reply in self.evidence.stored)
        ended = ", ".join(f"{statuses[status]} {status}" for status in sorted(statuses))
        return (
            f"seed {self.plan.seed}: {'ok' if not self.wrong else f'{len(self.wrong)} WRONG'} in {self.seconds:.0f} s"
            f" ({self.plan.web_server}, {len(self.plan.faults)} faults; {len(self.evidence.stored)} replies: {ended};"
            f" {again} begun again; {len(self.evidence.views)} readers, {sittings} reconnects, {resets} resets;"
            f" settled after {self.settled_after:.1f} s)"
        )


def run(plan: Plan, data_dir: Path) -> Result:
    """Play a plan on a fresh stage under `data_dir`, which must be empty, and check everything."""
    began = time.monotonic()
    with running_stage(data_dir, plan.web_server, ENVIRONMENT) as stage:
        result = asyncio.run(_run(plan, stage))
    result.seconds = time.monotonic() - began
    return result


async def _run(plan: Plan, stage: Stage) -> Result:
    evidence = Evidence()
    async with running_network(stage.port, Random(f"{plan.seed} network")) as network:
        breaker = Breaker(stage, network, plan.web_server)
        around = Surroundings(network.port, dict(stage.keys), evidence, asyncio.Event())
        visitors = _cast(plan.seed, around)
        supervising = asyncio.create_task(breaker.supervise())
        try:
            visits = [asyncio.create_task(visitor.visit(), name=visitor.name) for visitor in visitors]
            await breaker.play(plan)
            await asyncio.sleep(max(0.0, breaker.began + plan.seconds - time.monotonic()))
            breaker.tell("no more faults")
            around.stop.set()
            settled = await _settle(stage, visitors, visits, evidence)
            breaker.tell(f"settled after {settled:.1f} s")
            await collect(stage, network.port, visitors, evidence)
            breaker.tell("all is collected")
            if supervising.done():
                supervising.result()
        finally:
            for task in (supervising, *visits):
                task.cancel()
            await asyncio.gather(supervising, *visits, return_exceptions=True)
    evidence.troubles += [*logs.troubles(stage.log), *breaker.surprises]
    return Result(plan, evidence, check(evidence), breaker.diary, settled_after=settled, began=breaker.began)


def _cast(seed: int, around: Surroundings) -> list[Visitor]:
    """The clients: the same kinds for both tenants."""
    roles = [(kind, tenant) for kind in CAST for tenant in TENANTS]
    return [
        kind(number, tenant, around, Random(f"{seed} visitor {number}"))
        for number, (kind, tenant) in enumerate(roles)
    ]


async def _settle(
    stage: Stage, visitors: list[Visitor], visits: list[asyncio.Task[None]], evidence: Evidence
) -> float:
    """Wait until all clients have seen the end of their last turn and no work is left. Seconds that took."""
    began = time.monotonic()
    _, waiting = await asyncio.wait(visits, timeout=SETTLED_WITHIN)
    for visitor, visit in zip(visitors, visits, strict=True):
        if visit in waiting:
            evidence.unsettled.append(f"{visitor.name} is still {visitor.doing} after {SETTLED_WITHIN:g} s")
            visit.cancel()
        elif (error := visit.exception()) is not None:
            raise error
    deadline = began + SETTLED_WITHIN
    await asyncio.to_thread(_until_nothing_is_left, stage, deadline)
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*waiting)
    return time.monotonic() - began


def _until_nothing_is_left(stage: Stage, deadline: float) -> None:
    while stage.rows("SELECT 1 FROM conversations_work") and time.monotonic() < deadline:
        time.sleep(0.1)
