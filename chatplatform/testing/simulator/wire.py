"""What the two wire formats have in common, for the server that plays them."""

from __future__ import annotations

from typing import Any, Protocol

import orjson

from .answers import Answer, Prompt

TOKEN = "the token"


def around(frame: bytes) -> tuple[bytes, bytes]:
    """A frame whose text is TOKEN, without that."""
    before, _, after = frame.rpartition(orjson.dumps(TOKEN))
    return before, after


class Wire(Protocol):
    """A vendor's protocol. Frames are whole events, ready to be sent."""

    def parse(self, body: dict[str, Any]) -> Prompt:
        """Raises ``ValueError``, ``KeyError`` or ``TypeError`` for what the vendor would refuse."""

    def whole(self, answer: Answer) -> dict[str, Any]:
        """The body of an answer without streaming."""

    def opening(self, answer: Answer) -> bytes:
        """What comes before the first token."""

    def around_token(self, answer: Answer) -> tuple[bytes, bytes]:
        """What stands before and after a token's text, as JSON, in its frame."""

    def ending(self, answer: Answer) -> bytes:
        """The terminal marker of the text."""

    def closing(self, answer: Answer) -> bytes:
        """What follows the marker: usage and the end of the stream."""

    def failure(self, status: int, code: str, message: str) -> dict[str, Any]:
        """An error body."""

    def failure_event(self, code: str, message: str) -> bytes:
        """The same inside a stream."""
