"""What several programs say, in one terminal: each line with the name of its program, in its own colour."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import BinaryIO

COLOURS = (36, 33, 32, 35, 34, 31)
OWN_NAME = "platform"
RESET = "\x1b[0m"


class Output:
    """Writes to a binary stream. Colours only for a terminal, and not if NO_COLOR is set."""

    def __init__(self, stream: BinaryIO | None = None, width: int = 8) -> None:
        self._stream = stream or sys.stdout.buffer
        self._width = width
        self._coloured = self._stream.isatty() and not os.environ.get("NO_COLOR")
        self._colours: dict[str, int] = {}

    def lines(self, name: str, lines: Iterable[bytes]) -> None:
        """Show lines of a program, whole ones: nothing else comes between their bytes."""
        prefix = self._prefix(name)
        self._write(b"".join(prefix + line.rstrip(b"\r") + b"\n" for line in lines))

    def say(self, text: str) -> None:
        """Show a line of the platform itself."""
        self.lines(OWN_NAME, [text.encode()])

    def plain(self, text: str) -> None:
        """Show a line as it is, for a program to read."""
        self._write(f"{text}\n".encode())

    def _prefix(self, name: str) -> bytes:
        label = f"{name:<{self._width}} | "
        if self._coloured:
            colour = self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])
            label = f"\x1b[{colour}m{label}{RESET}"
        return label.encode()

    def _write(self, data: bytes) -> None:
        try:
            self._stream.write(data)
            self._stream.flush()
        except OSError:
            pass  # a closed terminal or pipe is no reason to stop serving
