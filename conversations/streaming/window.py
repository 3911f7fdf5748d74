"""How much of a reply a client has been sent and has not acknowledged."""

from __future__ import annotations

from collections import deque

from conversations.streaming import events

LARGEST = 64 * 1024  # characters that may be on their way to a client that acknowledges
STEP = 4 * 1024  # characters between two marks; how exact the account is


class Window:
    """The account of one reply on one connection. Clients need not acknowledge: it begins with the first time."""

    __slots__ = ("_acknowledged", "_marks", "_sent")

    def __init__(self) -> None:
        self._sent = self._acknowledged = 0
        self._marks: deque[tuple[tuple[int, int], int]] | None = None

    @property
    def is_full(self) -> bool:
        return self._marks is not None and self._sent - self._acknowledged >= LARGEST

    def sent(self, cursor: str, size: int) -> None:
        """Note an event that goes out."""
        self._sent += size
        marks = self._marks
        if marks is not None and self._sent - (marks[-1][1] if marks else self._acknowledged) >= STEP:
            marks.append((events.position(cursor), self._sent))

    def acknowledge(self, cursor: str) -> None:
        """Note how far the client has got. Raises ValueError if that is no cursor."""
        reached = events.position(cursor)
        if self._marks is None:
            # What it says of the time before is not known; from here on it is.
            self._marks, self._acknowledged = deque(), self._sent
        while self._marks and self._marks[0][0] <= reached:
            self._acknowledged = self._marks.popleft()[1]
