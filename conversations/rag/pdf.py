"""PDF into sections, one a page. The file is read in a process of its own, with a limit on memory and time.

A PDF of a few kilobytes can unpack to gigabytes, nest without end or loop its reader; whatever it does, it does to
that process alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from conversations.rag.documents import Limits, Outline, UnreadableDocument

CHILD = Path(__file__).with_name("pdf_child.py")
HEADER_WITHIN = 1024  # bytes; what comes before the header is tolerated, as by every viewer
TOO_MUCH = "The PDF takes too much memory to read; it may be damaged or malicious."


def read_pdf(data: bytes, outline: Outline, limits: Limits) -> None:
    """The text of each page, under the heading `Page N`.

    Raises UnreadableDocument: no PDF, encrypted, damaged, too many pages, too much memory or time.
    """
    if b"%PDF-" not in data[:HEADER_WITHIN]:
        raise UnreadableDocument("The file is not a PDF, although its name says so.")
    result = _in_child(data, limits)
    if error := result.get("error"):
        raise UnreadableDocument(error)
    outline.title = result["title"]
    for number, text in enumerate(result["pages"], start=1):
        outline.heading(2, f"Page {number}")
        for paragraph in text.split("\n\n"):
            outline.block(paragraph)
    if not any(text.strip() for text in result["pages"]):
        raise UnreadableDocument(
            "The PDF holds no text; it may be a scan, which would need text recognition first."
        )


def _in_child(data: bytes, limits: Limits) -> dict[str, Any]:
    arguments = (
        limits.pdf_memory_bytes,
        int(limits.pdf_seconds) + 1,
        limits.pdf_pages,
        limits.text_characters,
    )
    # -I: neither the environment nor the working directory decides what the child imports.
    command = [sys.executable, "-I", str(CHILD), *map(str, arguments)]
    try:
        done = subprocess.run(
            command, input=data, capture_output=True, timeout=limits.pdf_seconds, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise UnreadableDocument(
            f"The PDF could not be read within {limits.pdf_seconds:g} seconds."
        ) from error
    if done.returncode:
        raise UnreadableDocument(TOO_MUCH)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
