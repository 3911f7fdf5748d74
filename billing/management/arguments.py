"""Arguments that several of the commands take."""

from __future__ import annotations

from argparse import ArgumentTypeError
from datetime import date

from billing import months


def month(text: str) -> date:
    """A month such as 2026-11, by its first day."""
    try:
        return months.parse(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error
