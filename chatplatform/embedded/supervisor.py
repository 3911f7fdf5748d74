"""Runs programs as children: shows what they say, restarts what dies, stops all in order."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from typing import BinaryIO

from chatplatform.embedded.output import Output
from chatplatform.embedded.program import Program, Server, signal_group

FIRST_DELAY, LONGEST_DELAY = 0.25, 15.0
STABLE_AFTER = 20.0
POLL = 0.05
TOO_MANY_DEATHS = 3
READ_SIZE, LONGEST_LINE = 65536, 1 << 20


class NotReady(Exception):
    """A program did not come up. The message is one for the person at the terminal."""


class Child:
    """One program under supervision: a task that starts it again for as long as it should run."""

    def __init__(self, program: Program, output: Output) -> None:
        self.program = program
        self.deaths = 0
        self.process: asyncio.subprocess.Process | None = None
        self._output = output
        self._stopping = asyncio.Event()
        self._task = asyncio.create_task(self._keep_running(), name=program.name)

    async def stop(self, hurry: asyncio.Event) -> None:
        """Ask it to end, and kill it when its grace is over or `hurry` is set."""
        self._stopping.set()
        if self._is_alive():
            self._signal(self.program.stop_signal)
        waiting = asyncio.create_task(hurry.wait())
        ended = {self._task, waiting}
        await asyncio.wait(ended, timeout=self.program.grace, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not self._task.done():
            self._output.say(f"{self.program.name} did not stop in time: killing it")
            self._signal(signal.SIGKILL)
            await asyncio.wait({self._task}, timeout=1.0)

    def _is_alive(self) -> bool:
        return self.process is not None and self.process.returncode is None

    def _signal(self, number: signal.Signals) -> None:
        # The group for SIGKILL alone: asked to stop, a program tells its own children.
        if self.process is None or self.process.returncode is not None:
            return
        if number is signal.SIGKILL:
            signal_group(self.process.pid, number)
        else:
            self.process.send_signal(number)

    async def _keep_running(self) -> None:
        delay = FIRST_DELAY
        while not self._stopping.is_set():
            started = time.monotonic()
            ending = await self._run_once()
            if self._stopping.is_set():
                return
            self.deaths += 1
            if time.monotonic() - started > STABLE_AFTER:
                delay = FIRST_DELAY
            self._output.say(f"{self.program.name} {ending}; starting it again in {delay:g} s")
            await self._pause(delay)
            delay = min(delay * 2, LONGEST_DELAY)

    async def _run_once(self) -> str:
        """Start it, pass on what it says until it ends, and tell how it ended."""
        try:
            await asyncio.to_thread(self.program.before_start)
            if self._stopping.is_set():
                return "was not needed any more"
            self.process, reading = await self._launch()
        except (OSError, RuntimeError) as error:
            return f"cannot start ({error})"
        if self._stopping.is_set():
            self._signal(self.program.stop_signal)
        code = await self.process.wait()
        # What it has started goes with it: it would keep a port, or the pipe, for ever.
        signal_group(self.process.pid, signal.SIGKILL)
        await asyncio.wait({reading}, timeout=0.5)
        reading.cancel()
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"

    async def _launch(self) -> tuple[asyncio.subprocess.Process, asyncio.Task[None]]:
        # A pipe of our own: with asyncio's, `wait` would wait for everybody who has inherited it.
        read_end, write_end = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *self.program.launch_command(),
                stdout=write_end,
                stderr=write_end,
                **self.program.launch_options(),
            )
        except BaseException:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
        return process, asyncio.create_task(self._show(os.fdopen(read_end, "rb")))

    async def _show(self, pipe: BinaryIO) -> None:
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        try:
            await self._show_lines(reader)
        finally:
            transport.close()

    async def _show_lines(self, reader: asyncio.StreamReader) -> None:
        rest = b""
        while chunk := await reader.read(READ_SIZE):
            *lines, rest = (rest + chunk).split(b"\n")
            self._output.lines(self.program.name, lines)
            if len(rest) > LONGEST_LINE:
                self._output.lines(self.program.name, [rest])
                rest = b""
        if rest:
            self._output.lines(self.program.name, [rest])

    async def _pause(self, delay: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), delay)
        except TimeoutError:
            pass


class Supervisor:
    """The children of one run. To be used inside a running event loop, in the main thread: the kernel ties a
    child's life to the thread that started it."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self.hurry = asyncio.Event()
        self._children: dict[str, Child] = {}

    def start(self, program: Program) -> None:
        """Run a program from now on, and again whenever it dies."""
        self._children[program.name] = Child(program, self.output)

    async def start_server(self, server: Server, within: float) -> None:
        """Run a server, and return when it answers and is set up. Seconds. Raises NotReady."""
        self.start(server.program)
        await self.until(server.program.name, lambda: asyncio.to_thread(server.answers), within)
        await asyncio.to_thread(server.set_up)

    async def until(self, name: str, is_ready: Callable[[], Awaitable[bool]], within: float) -> None:
        """Return when `is_ready` says so. Raises NotReady after `within` seconds, or when the program `name`
        keeps dying meanwhile."""
        deadline = time.monotonic() + within
        while not await is_ready():
            if self._children[name].deaths >= TOO_MANY_DEATHS:
                raise NotReady(f"{name} keeps dying: see what it says above")
            if time.monotonic() > deadline:
                raise NotReady(f"{name} is not ready after {within:g} s: see what it says above")
            await asyncio.sleep(POLL)

    async def stop(self, *stages: tuple[str, ...]) -> None:
        """Stop children stage by stage, those of one stage together; whoever is not named goes last."""
        named = {name for stage in stages for name in stage}
        for stage in (*stages, tuple(self._children.keys() - named)):
            children = [self._children.pop(name) for name in stage if name in self._children]
            await asyncio.gather(*(child.stop(self.hurry) for child in children))
