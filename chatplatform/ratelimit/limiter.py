"""The limiter: one script call looks at every level and consumes at all of them, or at none.

It counts in a sliding window, by the clock of the server that keeps the counts. All levels of a call are on one
server: a script can be whole on one only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import NoScriptError, RedisError

from chatplatform import valkey
from chatplatform.ratelimit.types import Decision, Level, Refusal, Standing, Unit

HERE = Path(__file__).parent
MINUTE = 60.0  # s
CELLS = 240  # at most so many (and one) are kept for a level; a call is counted up to 1/240 of the window too long
MICRO = 1_000_000
LARGEST = 2**52  # Lua counts in doubles; sums of two must be exact
FIGURES = 5  # for each level, in the script's answer
Unavailable = (RedisError, OSError)


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script and the name that the server gives it."""

    text: str
    sha: str

    @classmethod
    def of(cls, text: str) -> Script:
        return cls(text, hashlib.sha1(text.encode()).hexdigest())

    def run(self, client: Redis, keys: Sequence[str], *args: object) -> Any:
        """Its answer. Raises RedisError."""
        said: tuple[Any, ...] = (len(keys), *keys, *args)
        [answer] = valkey.answers(client, valkey.packed("EVALSHA", self.sha, *said))
        if isinstance(answer, NoScriptError):  # the server has restarted; nothing was done
            [answer] = valkey.answers(client, valkey.packed("EVAL", self.text, *said))
        if isinstance(answer, Exception):
            raise answer
        return answer


ADMIT = Script.of((HERE / "admit.lua").read_text())
CORRECT = Script.of((HERE / "correct.lua").read_text())


class Limiter:
    """Counts calls on one server. `window` is seconds. Every method raises one of `Unavailable` if the server is
    away, or answers too late for the client's time-outs; then it is not known whether the call was counted.
    """

    def __init__(self, client: Redis, window: float = MINUTE, admit: Script = ADMIT) -> None:
        self.client, self._admit = client, admit
        self._window = round(window * MICRO)
        self._span = max(self._window // CELLS, 1)

    def admit(
        self, levels: Sequence[Level], *, requests: int = 1, tokens: int = 0, call: str | None = None
    ) -> Decision:
        """Let a call through if it fits in at every level; a refused one leaves no trace.

        `call` is the key under which `correct` finds its tokens again.
        """
        limits = [_as_number(limit) for level in levels for limit in (level.requests, level.tokens)]
        keys = [level.key for level in levels]
        if call is not None:
            keys.append(call)
        cost = requests, min(tokens, LARGEST)
        figures = self._admit.run(self.client, keys, self._window, self._span, *cost, *limits)
        return _decision(levels, figures)

    def look(self, levels: Sequence[Level]) -> Decision:
        """How the limits stand; consumes nothing."""
        return self.admit(levels, requests=0)

    def correct(self, levels: Sequence[Level], call: str, tokens: int) -> None:
        """Have a call count for `tokens` in all, from when it was let through. Again, too late or for a call that
        nobody knows: nothing happens."""
        CORRECT.run(self.client, [call, *(level.key for level in levels)], self._span, min(tokens, LARGEST))


def _as_number(limit: int | None) -> int:
    return -1 if limit is None else min(limit, LARGEST)


def _decision(levels: Sequence[Level], figures: Sequence[int]) -> Decision:
    standings, refusals = [], []
    for number, level in enumerate(levels):
        requests, tokens, frees, *waits = figures[number * FIGURES : (number + 1) * FIGURES]
        for unit, limit, used, wait in (
            (Unit.REQUESTS, level.requests, requests, waits[0]),
            (Unit.TOKENS, level.tokens, tokens, waits[1]),
        ):
            if limit is None:
                continue
            standings.append(Standing(level.name, unit, limit, max(limit - used, 0), frees / MICRO))
            if wait:
                refusals.append(Refusal(level.name, unit, limit, None if wait < 0 else wait / MICRO))
    return Decision(max(refusals, key=_longest, default=None), tuple(standings))


def _longest(refusal: Refusal) -> float:
    return float("inf") if refusal.retry_after is None else refusal.retry_after
