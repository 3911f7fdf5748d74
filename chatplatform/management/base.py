"""What all ops commands share: the platform's context, exit status, JSON on stdout, all else on stderr.

Exit status: 0 done, 1 refused or failed (one line on stderr says why), 2 wrong usage.
"""

from __future__ import annotations

import getpass
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import psycopg
from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, connections

from chatplatform import tenancy
from chatplatform.api.problem import DATABASE_GONE, Problem, as_problem
from chatplatform.observability.context import acting

T = TypeVar("T")
Result = dict[str, Any]
BAR, WIPE = 24, "\r\x1b[K"
HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
EPILOG = "Exit status: 0 done, 1 refused or failed, 2 wrong usage."

DATABASE_ERRORS = (DatabaseError, psycopg.Error, *DATABASE_GONE)
FORESEEN = (Problem, ValidationError, ObjectDoesNotExist, *DATABASE_ERRORS)


class Error(CommandError):
    """Ends a command with one line on stderr, and status 1."""


class UsageError(CommandError):
    """Ends a command with one line on stderr, and status 2."""

    def __init__(self, message: str) -> None:
        super().__init__(message, returncode=2)


class PlatformCommand(BaseCommand):
    """A command of the control plane. Subclasses say `arguments`, `run`, and for people `as_text`."""

    requires_system_checks: list[str] = []
    # The work, done in the platform's context; what it returns goes to stdout. Raises Error, or FORESEEN.
    # A method of each subclass, with the options it declared as keyword arguments.
    run: Callable[..., Result]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.epilog = EPILOG
        parser.add_argument("--json", action="store_true", help="Print one JSON object on one line")
        self.arguments(parser)

    def arguments(self, parser: CommandParser) -> None:
        """Declare the command's own arguments."""

    def as_text(self, result: Result) -> str:
        """The result for people; indented JSON unless a command knows better."""
        return json.dumps(result, indent=2)

    def failure(self, result: Result) -> str | None:
        """Why the status must be 1 although there is a result, or None."""
        return None

    def run_from_argv(self, argv: list[str]) -> None:
        try:
            super().run_from_argv(argv)
        finally:
            close_pools()

    def handle(self, *args: Any, **options: Any) -> None:
        with tenancy.in_platform(), acting(operator):
            try:
                result = self.run(**options)
            except FORESEEN as error:
                raise Error(one_line(error)) from error
        self.stdout.write(json.dumps(result) if options["json"] else self.as_text(result))
        if why := self.failure(result):
            raise Error(why)

    def say(self, text: str) -> None:
        """Tell a person something while the work goes on: on stderr."""
        wipe = WIPE if self.stderr.isatty() else ""  # a progress bar may be there
        self.stderr.write(wipe + self.style.NOTICE(text), as_it_is)

    def progress(self, items: Sequence[T], label: Callable[[T], str]) -> Iterator[T]:
        """The items one by one, behind a progress bar if stderr is a terminal."""
        shown = self.stderr.isatty() and len(items) > 0
        for done, item in enumerate(items):
            if shown:
                filled = "█" * (BAR * done // len(items))
                self._over(f"{filled:<{BAR}} {done}/{len(items)} {label(item)[:40]}")
            yield item
        if shown:
            self._over("")

    def _over(self, text: str) -> None:
        self.stderr.write(WIPE + text, as_it_is, ending="")
        self.stderr.flush()


def operator() -> tuple[str, str]:
    """Who runs a command: an account of the operating system, by its number if it has no name."""
    try:
        return "operator", getpass.getuser()
    except (KeyError, OSError):  # as in many containers
        return "operator", str(os.getuid())


def as_it_is(text: str) -> str:
    """A style for what Django would otherwise print in red."""
    return text


def close_pools() -> None:
    """End the pools' threads: they complain when an embedded PostgreSQL stops before this process."""
    for connection in connections.all(initialized_only=True):
        connection.close()
        if getattr(connection, "pool", None):
            connection.close_pool()  # type: ignore[attr-defined]


def one_line(error: BaseException) -> str:
    """What went wrong, for a person at a terminal."""
    if isinstance(error, Problem | ValidationError):
        problem = as_problem(error)
        named = [
            f"{one['field']}: {one['message']}" for one in problem.more.get("errors", ()) if one["field"]
        ]
        return "; ".join(named) or problem.detail
    if isinstance(error, ObjectDoesNotExist):
        model = type(error).__qualname__.partition(".")[0]
        return f"There is no such {HUMP.sub(' ', model).lower()}."
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return f"The database refused: {lines[0]}" if isinstance(error, DATABASE_ERRORS) else lines[0]


def table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as aligned columns under a heading; lists are joined, None is a dash."""
    shown = [[_cell(row[column]) for column in columns] for row in rows]
    lines = [[column.upper().replace("_", " ") for column in columns], *shown]
    widths = [max(len(line[number]) for line in lines) for number in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    return "-" if value is None or value == "" else str(value)
