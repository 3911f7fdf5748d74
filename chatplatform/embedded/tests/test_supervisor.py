"""Children are shown, restarted and stopped in order, and none outlives its supervisor."""

from __future__ import annotations

import asyncio
import io
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chatplatform.embedded import supervisor as supervisor_module
from chatplatform.embedded.output import Output
from chatplatform.embedded.program import Program
from chatplatform.embedded.supervisor import NotReady, Supervisor
from chatplatform.embedded.tests.conftest import ROOT, eventually, is_alive

STUBBORN = "trap '' TERM INT; echo up; while true; do sleep 0.05; done"


def shell(name: str, script: str, grace: float = 2.0) -> Program:
    return Program(name, ("/bin/sh", "-c", script), grace=grace)


def recorder() -> tuple[Output, io.BytesIO]:
    stream = io.BytesIO()
    return Output(stream), stream


async def said(stream: io.BytesIO, text: bytes, times: int = 1, within: float = 5.0) -> bool:
    deadline = time.monotonic() + within
    while stream.getvalue().count(text) < times:
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.01)
    return True


async def test_each_line_carries_its_programs_name() -> None:
    output, stream = recorder()
    supervisor = Supervisor(output)
    supervisor.start(shell("one", "printf 'a\\nb\\nunfinished'; sleep 9"))
    supervisor.start(shell("two", "echo error >&2; sleep 9"))
    assert await said(stream, b"two      | error\n")
    assert await said(stream, b"one      | a\none      | b\n")
    await supervisor.stop()
    assert b"one      | unfinished\n" in stream.getvalue()


async def test_what_dies_is_started_again_ever_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "FIRST_DELAY", 0.02)
    output, stream = recorder()
    supervisor = Supervisor(output)
    supervisor.start(shell("mayfly", "exit 3"))
    assert await said(stream, b"mayfly ended with status 3; starting it again in 0.08 s")
    await supervisor.stop()
    delays = [line.split()[-2] for line in stream.getvalue().decode().splitlines() if "again" in line]
    assert delays[:3] == ["0.02", "0.04", "0.08"]


async def test_the_delay_is_short_again_after_a_stable_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "FIRST_DELAY", 0.02)
    monkeypatch.setattr(supervisor_module, "STABLE_AFTER", 0.0)
    output, stream = recorder()
    supervisor = Supervisor(output)
    supervisor.start(shell("mayfly", "kill -9 $$"))
    assert await said(stream, b"was ended by SIGKILL; starting it again in 0.02 s", times=3)
    await supervisor.stop()


async def test_a_program_that_keeps_dying_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "FIRST_DELAY", 0.01)
    supervisor = Supervisor(recorder()[0])
    supervisor.start(Program("ghost", ("/nonexistent/program",)))

    async def never() -> bool:
        return False

    with pytest.raises(NotReady, match="ghost keeps dying"):
        await supervisor.until("ghost", never, within=10)
    await supervisor.stop()


async def test_it_stops_stage_by_stage() -> None:
    output, stream = recorder()
    supervisor = Supervisor(output)
    for name in ("first", "second", "last"):
        supervisor.start(
            shell(name, "trap 'sleep 0.1; echo bye; exit' TERM; echo up; while true; do sleep 0.02; done")
        )
    assert await said(stream, b"| up", times=3)
    await supervisor.stop(("first",), ("second",))
    farewells = [line.split()[0] for line in stream.getvalue().splitlines() if line.endswith(b"bye")]
    assert farewells == [b"first", b"second", b"last"]


async def test_the_stubborn_is_killed_when_its_grace_is_over() -> None:
    output, stream = recorder()
    supervisor = Supervisor(output)
    supervisor.start(shell("mule", STUBBORN, grace=0.3))
    assert await said(stream, b"| up")
    began = time.monotonic()
    await supervisor.stop()
    assert 0.3 <= time.monotonic() - began < 1.5
    assert b"mule did not stop in time: killing it" in stream.getvalue()


async def test_hurry_cuts_the_grace_short() -> None:
    output, stream = recorder()
    supervisor = Supervisor(output)
    supervisor.start(shell("mule", STUBBORN, grace=30))
    assert await said(stream, b"| up")
    asyncio.get_running_loop().call_later(0.1, supervisor.hurry.set)
    await asyncio.wait_for(supervisor.stop(), 3)


async def test_a_child_in_its_back_off_pause_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "FIRST_DELAY", 30.0)
    output, stream = recorder()
    supervisor = Supervisor(output)
    supervisor.start(shell("mayfly", "true"))
    assert await said(stream, b"again in 30 s")
    await asyncio.wait_for(supervisor.stop(), 1)


def test_no_colour_unless_a_terminal_reads_it() -> None:
    output, stream = recorder()
    output.lines("web", [b"hello\r"])
    output.plain("chat: here")
    assert stream.getvalue() == b"web      | hello\nchat: here\n"


SUPERVISOR_SCRIPT = """
import asyncio
from chatplatform.embedded.output import Output
from chatplatform.embedded.program import Program
from chatplatform.embedded.supervisor import Supervisor

async def main():
    supervisor = Supervisor(Output())
    supervisor.start(Program("child", ("/bin/sh", "-c", "trap '' TERM INT HUP; echo pid $$; exec sleep 60")))
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the next start cleans up")
def test_no_child_survives_a_killed_supervisor(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR_SCRIPT], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    child = int(process.stdout.readline().split()[-1])
    assert is_alive(child)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert eventually(lambda: not is_alive(child))
