"""The same script, with a clock that tests can set: the one difference is where it reads the time."""

from __future__ import annotations

from typing import Any

from chatplatform.ratelimit.limiter import ADMIT, MICRO, Script

ASKED = "redis.call('TIME')"
assert ADMIT.text.count(ASKED) == 1
CLOCKED = Script.of(ADMIT.text.replace(ASKED, "redis.call('LRANGE', 'clock', 0, 1)"))
START = 1_800_000_000 * MICRO + 123


class Clock:
    """µs, as the server's own clock; stands still until it is set."""

    def __init__(self, valkey: Any) -> None:
        self._valkey = valkey
        self.now = START
        self.set(START)

    def set(self, now: int) -> None:
        self.now = now
        with self._valkey.pipeline() as pipeline:
            pipeline.delete("clock").rpush("clock", *divmod(now, MICRO))
            pipeline.execute()

    def forward(self, micros: int) -> None:
        self.set(self.now + micros)
