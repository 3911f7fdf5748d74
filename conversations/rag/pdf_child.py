"""Reads one PDF from standard input and prints `{"title", "pages"}` or `{"error"}` as JSON.

A program, not a module: it runs alone, with `MEMORY_BYTES CPU_SECONDS PAGES CHARACTERS` as arguments, and imports
nothing of the platform. Exit status 1: it ran into its limits.
"""

from __future__ import annotations

import io
import json
import logging
import resource
import sys
from collections.abc import Iterator


class Refused(Exception):
    """The PDF cannot be taken; the message says why."""


def main(memory: int, seconds: int, pages: int, characters: int) -> int:
    _limit(resource.RLIMIT_CPU, seconds)
    data = sys.stdin.buffer.read()
    # What has been read already is not the PDF's doing.
    _limit(resource.RLIMIT_AS, memory + len(data))
    try:
        answer = _read(data, pages, characters)
    except Refused as error:
        answer = {"error": str(error)}
    except (MemoryError, RecursionError):
        return 1
    sys.stdout.write(json.dumps(answer))
    return 0


def _limit(what: int, value: int) -> None:
    _, hard = resource.getrlimit(what)
    try:
        resource.setrlimit(what, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
    except (ValueError, OSError):
        pass  # macOS refuses RLIMIT_AS; pypdf's own bounds on unpacked data and our clock remain


def _read(data: bytes, pages: int, characters: int) -> dict[str, object]:
    import pypdf
    from pypdf.errors import LimitReachedError

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Refused("The PDF is encrypted; please remove the password first.")
        if len(reader.pages) > pages:
            raise Refused(f"The PDF has {len(reader.pages):,} pages; {pages:,} are allowed.")
        return {"title": _title(reader), "pages": list(_texts(reader, characters))}
    except (Refused, MemoryError, RecursionError):
        raise
    except LimitReachedError as error:
        raise Refused("The PDF unpacks to too much data; it may be damaged or malicious.") from error
    except Exception as error:  # pypdf raises whatever a broken file makes it stumble over
        raise Refused("The PDF is damaged and cannot be read.") from error


def _title(reader: object) -> str:
    metadata = getattr(reader, "metadata", None)
    title = getattr(metadata, "title", None)
    return title.strip()[:300] if isinstance(title, str) else ""


def _texts(reader: object, characters: int) -> Iterator[str]:
    left = characters
    for page in reader.pages:  # type: ignore[attr-defined]
        page.get_contents()  # raises for a page that unpacks to too much; the next line would call it empty
        text = page.extract_text().encode("utf-8", "replace").decode().replace("\0", "")
        left -= len(text)
        if left < 0:
            raise Refused(f"The PDF has more than {characters:,} characters of text.")
        yield text


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
