"""Money and counts for people."""

from __future__ import annotations

from decimal import Decimal

CENT, SMALL = Decimal("0.01"), Decimal("0.0001")


def usd(value: Decimal | int) -> str:
    """US dollars, to the cent; what is less than ten cents, to three digits that count."""
    value = Decimal(value)
    if not value:
        return "$0"
    sign, size = ("−" if value < 0 else ""), abs(value)
    if size >= Decimal("0.1"):
        return f"{sign}${size.quantize(CENT):,f}"
    rounded = Decimal(f"{size:.2e}")
    return f"{sign}${rounded.normalize():f}"


def exact_usd(value: Decimal) -> str:
    """US dollars, to the last digit."""
    return f"{'−' if value < 0 else ''}${abs(value).normalize():,f}" if value else "$0"


def count(value: Decimal | int) -> str:
    """A whole number, with commas."""
    return f"{int(value):,}"
