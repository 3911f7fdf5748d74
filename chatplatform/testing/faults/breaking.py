"""Breaks things as the plan says, and starts again what died, as the supervisor of `make run` does."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from redis.exceptions import RedisError

from chatplatform.embedded.program import signal_group
from chatplatform.testing.faults.network import Network
from chatplatform.testing.faults.schedule import Fault, Kind, Plan
from chatplatform.testing.stage import WORKERS, Stage

POLL, BACK_OFF = 0.1, 0.3  # s
GRACE = 12.0  # s that a process may take to end after SIGTERM
HICCUPS = 3  # calls

Action = Callable[["Breaker", Fault], Awaitable[str]]


@dataclass
class Breaker:
    """The hands. `diary` is what happened, in seconds since `began`; `surprises` what should not have."""

    stage: Stage
    network: Network
    web: str
    began: float = field(default_factory=time.monotonic)
    diary: list[str] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)
    _going: set[str] = field(default_factory=set)  # servers that are being restarted now

    def tell(self, what: str) -> None:
        """Write into the diary."""
        self.diary.append(f"{time.monotonic() - self.began:6.2f} s  {what}")

    async def play(self, plan: Plan) -> None:
        """All faults of a plan, each at its time and side by side where they last; back when all is undone."""
        async with asyncio.TaskGroup() as group:
            for fault in plan.faults:
                delay = self.began + fault.at - time.monotonic()
                await asyncio.sleep(max(0.0, delay))
                group.create_task(self._one(fault))

    async def _one(self, fault: Fault) -> None:
        self.tell(str(fault.kind) + (f": {fault.target}" if fault.target else ""))
        said = await ACTIONS[fault.kind](self, fault)
        if said:
            self.tell(f"    {said}")

    async def supervise(self) -> None:
        """Start again what has died. Runs until it is cancelled."""
        while True:
            for name in (self.web, *WORKERS, "beat"):
                process = self.stage.processes[name]
                if (code := process.poll()) is not None:
                    self.tell(f"    {name} has ended ({code}) and is started again")
                    await asyncio.sleep(BACK_OFF)
                    self.stage.start(name)
            for name in ("postgres", "valkey"):
                gone = self.stage.processes.get(name)
                if gone is not None and gone.poll() is not None and name not in self._going:
                    self.surprises.append(f"{name} died by itself ({gone.returncode})")
            await asyncio.sleep(POLL)

    # --- Processes ---------------------------------------------------------------------------------------------
    async def kill(self, name: str) -> str:
        self.stage.processes[name].kill()
        return ""

    async def stop(self, name: str) -> str:
        """SIGTERM. What does not end in time is killed, as a supervisor would."""
        process, began = self.stage.processes[name], time.monotonic()
        process.terminate()
        if not await asyncio.to_thread(_ends, process):
            process.kill()
            return f"{name} did not end in {GRACE:g} s and was killed"
        return f"{name} took {time.monotonic() - began:.1f} s to end"

    async def pause(self, name: str, seconds: float) -> str:
        process = self.stage.processes[name]
        process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
        return f"{name} goes on"

    # --- Servers -----------------------------------------------------------------------------------------------
    async def restart(self, name: str, number: signal.Signals, away: float) -> str:
        """End a server by a signal to its main process, and start it some seconds after it has gone."""
        if name in self._going:
            return f"{name} is down already"
        self._going.add(name)
        try:
            process = self.stage.processes[name]
            if number is signal.SIGKILL:
                signal_group(process.pid, number)
            else:
                process.send_signal(number)
            await asyncio.to_thread(_wait, process)
            await asyncio.sleep(away)
            await asyncio.to_thread(self.stage.start_server, name)
        finally:
            self._going.discard(name)
        return f"{name} is back"

    async def pause_valkey(self, seconds: float) -> str:
        if "valkey" in self._going:
            return "valkey is down already"
        return await self.pause("valkey", seconds)

    async def flush(self) -> str:
        if "valkey" in self._going:
            return "valkey is down already"
        try:
            await asyncio.to_thread(self.stage.valkey.flushall)  # it may be paused
        except RedisError:
            return "valkey did not answer"
        return ""

    # --- The provider ------------------------------------------------------------------------------------------
    async def outage(self, fault: str, seconds: float) -> str:
        """Every call fails for a while."""
        await asyncio.to_thread(self.stage.simulator.control, fault=fault)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(self.stage.simulator.control, fault="")
        return "the provider is well again"

    async def hiccups(self, fault: str) -> str:
        """The next few calls fail."""
        await asyncio.to_thread(self.stage.simulator.control, faults=[{"fault": fault, "times": HICCUPS}])
        return ""


def _ends(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        return False
    return True


def _wait(process: subprocess.Popen[bytes]) -> None:
    if not _ends(process):
        signal_group(process.pid, signal.SIGKILL)
        process.wait()


async def _hit(count: int) -> str:
    return f"{count} connections"


async def _stall(breaker: Breaker, fault: Fault) -> str:
    return f"{await breaker.network.stall(fault.share, fault.lasts)} connections flow again"


ACTIONS: dict[Kind, Action] = {
    Kind.KILL_WORKER: lambda to, fault: to.kill(fault.target),
    Kind.PAUSE_WORKER: lambda to, fault: to.pause(fault.target, fault.lasts),
    Kind.STOP_WORKER: lambda to, fault: to.stop(fault.target),
    Kind.KILL_WEB: lambda to, _: to.kill(to.web),
    Kind.STOP_WEB: lambda to, _: to.stop(to.web),
    Kind.KILL_BEAT: lambda to, _: to.kill("beat"),
    Kind.RESTART_VALKEY: lambda to, fault: to.restart("valkey", signal.SIGTERM, fault.lasts),
    Kind.KILL_VALKEY: lambda to, fault: to.restart("valkey", signal.SIGKILL, fault.lasts),
    Kind.FLUSH_VALKEY: lambda to, _: to.flush(),
    Kind.PAUSE_VALKEY: lambda to, fault: to.pause_valkey(fault.lasts),
    Kind.RESTART_POSTGRES: lambda to, fault: to.restart("postgres", signal.SIGINT, fault.lasts),
    Kind.HALT_POSTGRES: lambda to, fault: to.restart("postgres", signal.SIGQUIT, fault.lasts),
    Kind.KILL_POSTGRES: lambda to, fault: to.restart("postgres", signal.SIGKILL, fault.lasts),
    Kind.CUT: lambda to, fault: _hit(to.network.cut(fault.share)),
    Kind.STALL: _stall,
    Kind.HALF_CLOSE: lambda to, fault: _hit(to.network.half_close(fault.share)),
    Kind.PROVIDER_OUTAGE: lambda to, fault: to.outage(fault.target, fault.lasts),
    Kind.PROVIDER_HICCUPS: lambda to, fault: to.hiccups(fault.target),
}
