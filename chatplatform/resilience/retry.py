"""How long to wait before the next try, and when not to try again."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential pauses with full jitter: each is drawn from zero to the bound, so that callers who failed together
    do not come back together.

    `tries` counts the first one too. `base` and `cap` are seconds, `patience` the longest `retry_after` that is
    waited for.
    """

    tries: int = 3
    base: float = 0.25
    cap: float = 4.0
    patience: float = 5.0
    draw: Callable[[float, float], float] = random.uniform

    def pause(self, tried: int, *, left: float, retry_after: float | None = None) -> float | None:
        """Seconds to wait after so many tries; None if there must be no other.

        That is so when all tries are used up, when the pause would not leave any of the `left` seconds, or when the
        other side asks for more than our patience. A pause that was asked for is never cut short; the jitter comes
        on top.
        """
        if tried >= self.tries or (retry_after or 0.0) > self.patience:
            return None
        jitter = self.draw(0.0, min(self.cap, self.base * 2 ** (tried - 1)))
        pause = (retry_after or 0.0) + jitter
        return pause if pause < left else None
