"""How a web process takes its leave (CONTRACT §6 and §8): it says so, lets everybody go elsewhere, and then ends.

The server programs call `begin` when they are told to stop. Until the end they go on listening, so that `/readyz` can
say 503 and what is under way is finished.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

POLL = 0.05  # s
AT_LEAST = 0.1  # of the grace: a load balancer must get to see that `/readyz` says 503
LAST_CALL = 1.0  # s, at the end, for closing what is still there
SPREAD = 0.5  # of the grace: clients are sent away one by one, or all would arrive elsewhere at once


@dataclass
class _State:
    leaving: asyncio.Task[None] | None = None
    hurried: bool = False
    let_go: list[Callable[[int], None]] = field(default_factory=list)
    end: list[Callable[[], None]] = field(default_factory=list)
    is_busy: list[Callable[[], bool]] = field(default_factory=list)


_state = _State()


def is_leaving() -> bool:
    """Whether this process takes nothing new any more."""
    return _state.leaving is not None


def register(*, let_go: Callable[[int], None], end: Callable[[], None], is_busy: Callable[[], bool]) -> None:
    """Take part: `let_go(within)` asks clients to go elsewhere, spread over so many milliseconds; `end` closes
    what is left; as long as `is_busy`, there is something to wait for."""
    _state.let_go.append(let_go)
    _state.end.append(end)
    _state.is_busy.append(is_busy)


def begin(grace: float, stop: Callable[[], None]) -> None:
    """Told to stop, in the event loop: let everybody go within `grace` seconds, `LAST_CALL` included; then `stop`.

    Told so again, somebody does not want to wait: what is left is closed now.
    """
    if _state.leaving is not None:
        _state.hurried = True
        return
    _state.leaving = asyncio.create_task(_leave(grace))
    _state.leaving.add_done_callback(lambda _: stop())


async def _leave(grace: float) -> None:
    began = time.monotonic()
    last_call = min(LAST_CALL, grace / 3)
    for let_go in _state.let_go:
        let_go(int(1000 * SPREAD * (grace - last_call)))
    await _while_busy(began + grace - last_call, at_least=began + AT_LEAST * grace)
    for end in _state.end:
        end()
    await _while_busy(time.monotonic() + last_call)


async def _while_busy(until: float, at_least: float = 0.0) -> None:
    while (now := time.monotonic()) < until and not _state.hurried:
        if now > at_least and not any(is_busy() for is_busy in _state.is_busy):
            return
        await asyncio.sleep(POLL)
    if _state.hurried:
        await asyncio.sleep(2 * POLL)  # what was closed just now has to go out


def jitter(within: int) -> int:
    """A moment within so many milliseconds; 0 only within 0."""
    return random.randint(1 + within // 10, within + 1) if within else 0
