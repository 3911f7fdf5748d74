"""Months (UTC), as the date of their first day."""

from __future__ import annotations

import calendar
import re
from datetime import date, timedelta

SHAPE = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")


def parse(text: str) -> date:
    """The month that is written such as 2026-11. Raises ValueError."""
    match = SHAPE.fullmatch(text)
    if not match or not 1970 <= int(match[1]) < 9999:
        raise ValueError(f"{text!r} is not a month such as 2026-11")
    return date(int(match[1]), int(match[2]), 1)


def length(day: date) -> int:
    """How many days the month of a day has."""
    return calendar.monthrange(day.year, day.month)[1]


def last_day(day: date) -> date:
    """The last day of the month of a day."""
    return day.replace(day=length(day))


def after(month: date) -> date:
    """The first day of the next month."""
    return last_day(month) + timedelta(days=1)


def before(month: date) -> date:
    """The first day of the month before."""
    return (month.replace(day=1) - timedelta(days=1)).replace(day=1)
