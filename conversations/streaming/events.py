"""What passes between the log of a reply and its readers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from conversations.vocabulary import LAST_EVENTS, ResetReason

# Cursors of events that were made up from the stored reply, because the log is gone. They sort before the log's.
ACCEPTED_CURSOR, RESET_CURSOR, TEXT_CURSOR = "0-0", "0-1", "0-2"
END_CURSOR = f"{2**63}-0"
# Published, and nothing that a client is sent: the conversation is gone, with its end user.
ERASED = "erased"


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a reply. `data` is JSON as it goes over the wire; `cursor` orders the events of one reply."""

    reply_id: str
    cursor: str
    kind: str
    data: bytes

    @property
    def last(self) -> bool:
        return self.kind in LAST_EVENTS

    @property
    def position(self) -> tuple[int, int]:
        return position(self.cursor)

    def frame(self) -> str:
        """The event as a WebSocket frame, without decoding its data again."""
        return f'{{"type":"{self.kind}","cursor":"{self.cursor}",{self.data.decode()[1:]}'

    def server_sent(self) -> bytes:
        """The event as it stands in an event stream."""
        return b"id: %b\nevent: %b\ndata: %b\n\n" % (self.cursor.encode(), self.kind.encode(), self.data)


def position(cursor: str) -> tuple[int, int]:
    """A cursor as numbers that compare. Raises ValueError if it never was one."""
    milliseconds, _, sequence = cursor.partition("-")
    if not (milliseconds.isdecimal() and sequence.isdecimal() and len(cursor) < 42):
        raise ValueError("This is no cursor.")
    return int(milliseconds), int(sequence)


def with_accepted(found: list[Event], accepted: Event | None) -> list[Event]:
    """What was found, beginning with `accepted` also where the log is away or gone: the sender waits for it."""
    if accepted is None or any(event.kind == accepted.kind for event in found):
        return found
    return [accepted, *found]


def accepted(reply_id: UUID, user_message_id: UUID, client_id: str | None) -> tuple[str, bytes]:
    data = {"user_message_id": str(user_message_id), "reply_id": str(reply_id)}
    return "accepted", orjson.dumps({**data, "client_id": client_id} if client_id is not None else data)


def delta(reply_id: str, text: str) -> tuple[str, bytes]:
    return "delta", orjson.dumps({"reply_id": reply_id, "text": text})


def reset(reply_id: str, reason: ResetReason) -> tuple[str, bytes]:
    return "reset", orjson.dumps({"reply_id": reply_id, "reason": str(reason)})


def ended(status: str, reply: dict[str, Any]) -> tuple[str, bytes]:
    """The last event: its name is the reply's status."""
    return status, orjson.dumps({"reply_id": reply["id"], "reply": reply})
