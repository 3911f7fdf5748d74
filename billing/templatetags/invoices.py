"""`{% load invoices %}`: amounts and counts as an invoice prints them."""

from __future__ import annotations

from decimal import Decimal

from django import template

register = template.Library()


@register.filter
def money(amount: Decimal) -> str:
    """Dollars and cents: $1,234.50, −$3.00."""
    return f"{'−' if amount < 0 else ''}${abs(amount):,.2f}"


@register.filter
def price(amount: Decimal) -> str:
    """Dollars with as many decimals as there are, at least two."""
    whole, _, decimals = f"{amount.normalize():,f}".partition(".")
    return f"${whole}.{decimals:0<2}"


@register.filter
def whole(number: int) -> str:
    """A number with commas."""
    return f"{number:,}"


@register.filter
def percent(value: Decimal) -> str:
    """Without zeros at its end."""
    return f"{value.normalize():f}"
