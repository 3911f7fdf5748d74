"""What the limiter should do, as plainly as it can be said: a list of all calls, searched anew for every question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from chatplatform.ratelimit import Level


@dataclass
class Entry:
    """A call that passed."""

    time: int
    call: str
    requests: int
    tokens: int


@dataclass
class Model:
    """Times in µs. A call leaves the window together with the last one of its span."""

    window: int
    span: int
    entries: dict[str, list[Entry]] = field(default_factory=dict)

    def leaves(self, key: str, entry: Entry) -> int:
        together = [one.time for one in self.entries[key] if one.time // self.span == entry.time // self.span]
        return max(together) + self.window

    def used(self, key: str, now: int) -> tuple[int, int]:
        still = [entry for entry in self.entries.get(key, []) if self.leaves(key, entry) > now]
        return sum(entry.requests for entry in still), sum(entry.tokens for entry in still)

    def fits(self, levels: Sequence[Level], tokens: int, now: int) -> bool:
        for level in levels:
            requests, held = self.used(level.key, now)
            if level.requests is not None and requests + 1 > level.requests:
                return False
            if level.tokens is not None and held + tokens > level.tokens:
                return False
        return True

    def wait(self, levels: Sequence[Level], tokens: int, now: int) -> int | None:
        """µs until the call would pass; None if it never would."""
        moments = {now} | {
            self.leaves(level.key, entry) for level in levels for entry in self.entries.get(level.key, [])
        }
        passing = [moment for moment in moments if moment >= now and self.fits(levels, tokens, moment)]
        return min(passing) - now if passing else None

    def admit(self, levels: Sequence[Level], call: str, tokens: int, now: int) -> None:
        for level in levels:
            self.entries.setdefault(level.key, []).append(Entry(now, call, 1, tokens))

    def correct(self, levels: Sequence[Level], call: str, tokens: int) -> None:
        for level in levels:
            for entry in self.entries.get(level.key, []):
                if entry.call == call:
                    entry.tokens = tokens

    def in_any_window(self, key: str, now: int) -> tuple[int, int]:
        """Requests and tokens of the window that ends now, to the microsecond and without spans."""
        still = [entry for entry in self.entries.get(key, []) if entry.time + self.window > now]
        return sum(entry.requests for entry in still), sum(entry.tokens for entry in still)
