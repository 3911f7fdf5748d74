"""What a person may send: text, of a sensible length, that every part of the system can carry."""

from __future__ import annotations

import re
from typing import Any

from chatplatform.api.problem import Code, Problem, invalid

LARGEST = 100_000  # bytes of UTF-8
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def checked(content: Any) -> str:
    """The content itself. Raises Problem: `invalid_request`, or `too_large` over 100,000 bytes of UTF-8."""
    if not isinstance(content, str):
        raise invalid("content", "Must be text.")
    try:
        size = len(content.encode())
    except UnicodeEncodeError as error:
        raise invalid("content", "Holds half of a surrogate pair, which is no character.") from error
    if size > LARGEST:
        raise Problem(
            Code.TOO_LARGE, f"A message may have {LARGEST:,} bytes of UTF-8; this one has {size:,}."
        )
    if UNPRINTABLE.search(content):
        raise invalid("content", "Holds control characters (NUL or other binary data).")
    if not content.strip():
        raise invalid("content", "Must not be empty.")
    return content
