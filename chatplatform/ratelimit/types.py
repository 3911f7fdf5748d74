"""What the limiter is asked, and what it answers."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Unit(enum.StrEnum):
    """What is counted."""

    REQUESTS = "requests"
    TOKENS = "tokens"


@dataclass(frozen=True, slots=True)
class Level:
    """One place where calls are counted, and how much may pass there in any window; None is no limit.

    `name` is for people and headers, `key` is where the count is kept.
    """

    name: str
    key: str
    requests: int | None = None
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How one limit stands after the call: what is left, and the seconds until more is."""

    level: str
    unit: Unit
    limit: int
    remaining: int
    resets_in: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """The limit that a refused call has to wait for longest.

    `retry_after`: seconds after which the same call passes if no other comes. None: it takes more than the limit
    allows in a whole window, and will never pass.
    """

    level: str
    unit: Unit
    limit: int
    retry_after: float | None


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a call passes, and how every limit stands. `checked` is false if nobody could be asked."""

    refusal: Refusal | None = None
    standings: tuple[Standing, ...] = ()
    checked: bool = True

    @property
    def passed(self) -> bool:
        return self.refusal is None
