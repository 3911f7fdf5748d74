"""What the clients of a run said and saw, in order, and what is stored in the end. Plain data, for the checker."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

LAST = ("completed", "failed", "cancelled")


def position(cursor: str) -> tuple[int, int]:
    """A cursor as numbers. Clients must not look into it; the proof does."""
    milliseconds, _, sequence = cursor.partition("-")
    return int(milliseconds), int(sequence)


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a reply as a reader got it. `sitting` numbers the reader's connections, `at` is monotonic."""

    sitting: int
    at: float
    kind: str
    cursor: str
    text: str = ""
    reply: dict[str, Any] | None = None

    def __str__(self) -> str:
        what = {"delta": repr(self.text), "reset": self.text}.get(self.kind, "")
        return f"[{self.sitting}] {self.cursor:>20}  {self.kind} {what}".rstrip()


@dataclass
class View:
    """One reader's sight of one reply, over as many connections as it took.

    `sittings` has the cursor that each connection went on from ("" for the beginning). `to_the_end`: this reader
    did not leave before the last event.

    A server that has waited in vain for the wish to go on from there sends all from the beginning, and what was wished
    for once it hears the wish. What the reader has already is left out, as the chat page does it, if a connection, or
    the answer to its wish, begins with nothing else.
    """

    reader: str
    reply_id: str
    to_the_end: bool = True
    sittings: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    begins: bool = False  # nothing has come, of what is being sent, but what was there already
    wished: str = ""  # the cursor of the wish, if something else may come before its answer
    fresh: bool = False  # nothing at all has come on this connection

    def sit(self, after: str = "") -> None:
        """A new connection, that goes on after this cursor."""
        self.sittings.append(after)
        self.begins, self.wished, self.fresh = bool(after), after, True

    def take(self, kind: str, cursor: str, data: dict[str, Any]) -> None:
        """The next event."""
        text = data.get("text") or data.get("reason") or ""
        known = any((event.kind, event.cursor, event.text) == (kind, cursor, text) for event in self.events)
        made_up = cursor.startswith("0-")  # from the stored reply: that comes again
        if self.fresh and kind != "accepted" and not self.wished.startswith("0-"):
            self.wished = ""  # this is the answer
        elif self.wished and not self.fresh and cursor == self._first_after(self.wished):
            self.begins, self.wished = True, ""
        self.fresh = False
        self.begins = self.begins and known and not made_up
        if self.begins:
            return
        at = time.monotonic()
        self.events.append(Event(len(self.sittings) - 1, at, kind, cursor, text, data.get("reply")))

    def _first_after(self, cursor: str) -> str:
        """What the reader has next after that, if it has."""
        told = (event for event in self.events if event.kind != "accepted")
        return next((event.cursor for event in told if position(event.cursor) > position(cursor)), "")

    @property
    def ended(self) -> bool:
        return any(event.kind in LAST for event in self.events)

    @property
    def cursor(self) -> str:
        """Where to go on."""
        return self.events[-1].cursor if self.events else ""

    @property
    def text(self) -> str:
        """All deltas after the last reset, or since a connection that began again."""
        return self.epochs()[-1].text

    def epochs(self) -> list[Epoch]:
        """The texts that were begun: a reset, or a connection from the beginning, starts the next one."""
        found, sitting = [Epoch("")], 0
        for event in self.events:
            again = event.sitting != sitting and not self.sittings[event.sitting]
            sitting = event.sitting
            if event.kind == "reset" or again:
                found.append(Epoch(event.cursor, again=again))
            if event.kind == "delta":
                found[-1].text += event.text
        return found


@dataclass
class Epoch:
    """The text between two resets. `cursor` is of what began it; `again`, a connection from the beginning."""

    cursor: str
    text: str = ""
    again: bool = False


@dataclass
class Said:
    """A message that a client wants answered. `key` is its client_id or Idempotency-Key; `replies` are the ids of
    the replies that were named to the client for it: there must be one."""

    tenant: str
    reader: str
    conversation: str
    content: str
    key: str
    tokens: int
    replies: set[str] = field(default_factory=set)


@dataclass
class Stored:
    """A reply as the database has it, with its question. `shown` is what REST tells about it."""

    tenant: str
    reply_id: str
    conversation: str
    question: str
    key: str
    status: str
    content: str
    attempt: int
    error: str = ""
    provider: str = ""
    ended_at: float = 0.0  # s since the epoch
    shown: dict[str, Any] = field(default_factory=dict)


@dataclass
class Call:
    """A call of the provider: its number, what the last message in it was, the fault it met, and when it came
    (s since the epoch)."""

    number: int
    question: str
    fault: str
    at: float = 0.0


@dataclass
class Evidence:
    """All of a run that the checker looks at.

    `answers` counts what the server answered, as (what, status, code); `troubles` are log entries that nobody
    expects; `left` is what should be gone: leases, work, and what else is to be released.
    """

    said: list[Said] = field(default_factory=list)
    views: list[View] = field(default_factory=list)
    whole: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    answers: Counter[tuple[str, int, str]] = field(default_factory=Counter)
    stored: list[Stored] = field(default_factory=list)
    user_messages: Counter[tuple[str, str]] = field(default_factory=Counter)
    calls: dict[int, Call] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    unsettled: list[str] = field(default_factory=list)
