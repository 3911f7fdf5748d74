"""The arithmetic of invoices and credit notes: exact, and rounded once. No database.

A month that had several plans is split by days: each plan's fee and included tokens count for the days it was in force
(included tokens rounded up), and each one's usage is charged as that plan says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal

from billing import months
from billing.models import Plan
from billing.vocabulary import LineKind, UsageBilling

CENT, SMALLEST = Decimal("0.01"), Decimal("1e-9")
MILLION, HUNDRED, NOTHING = Decimal(1_000_000), Decimal(100), Decimal("0.00")


@dataclass(frozen=True, slots=True)
class Span:
    """The days of one month, first and last, on which one plan was in force."""

    plan: Plan
    starts: date
    ends: date

    @property
    def days(self) -> int:
        return (self.ends - self.starts).days + 1

    @property
    def is_whole(self) -> bool:
        return self.days == months.length(self.starts)

    @property
    def included_tokens(self) -> int:
        """The plan's for these days, rounded up."""
        return -(-self.plan.included_tokens * self.days // months.length(self.starts))


@dataclass(frozen=True, slots=True)
class Usage:
    """What the ledger says about one model in a span; `charged` is US dollars."""

    provider: str
    model: str
    calls: int
    tokens: int
    charged: Decimal


@dataclass(frozen=True, slots=True)
class Line:
    """A line to be. `exact` is US dollars with nine decimals."""

    kind: LineKind
    description: str
    span: Span
    exact: Decimal = NOTHING
    provider: str = ""
    model: str = ""
    calls: int = 0
    tokens: int = 0
    unit_price: Decimal | None = None

    @property
    def amount(self) -> Decimal:
        return cents(self.exact)


@dataclass(frozen=True, slots=True)
class Sums:
    """What a document comes to."""

    subtotal: Decimal
    tax: Decimal

    @property
    def total(self) -> Decimal:
        return self.subtotal + self.tax


def cents(exact: Decimal) -> Decimal:
    """Rounded to cents; half a cent goes to the even one."""
    return exact.quantize(CENT, ROUND_HALF_EVEN)


def lines_of(span: Span, usages: Sequence[Usage]) -> Iterator[Line]:
    """The lines of one span: its fee, each model's usage, and the tokens over those included."""
    if fee := _fee(span):
        yield fee
    by_cost = span.plan.usage_billing == UsageBilling.COST
    for usage in usages:
        yield Line(
            LineKind.USAGE,
            f"Usage of {usage.provider}/{usage.model}"[:300],
            span,
            exact=usage.charged if by_cost else NOTHING,
            provider=usage.provider,
            model=usage.model,
            calls=usage.calls,
            tokens=usage.tokens,
        )
    if not by_cost and (overage := _overage(span, sum(usage.tokens for usage in usages))):
        yield overage


def sums(amounts: Iterable[Decimal], tax_percent: Decimal) -> Sums:
    """The sum of the lines' amounts, and the tax on it, rounded once."""
    subtotal = sum(amounts, NOTHING)
    return Sums(subtotal, cents(subtotal * tax_percent / HUNDRED))


def credit_sums(amounts: Iterable[Decimal], tax_percent: Decimal, left: Sums) -> Sums:
    """What a credit note gives back of what is `left` of an invoice; positive.

    The last one takes the tax that is left, so that roundings of several never add up to more or less than the whole.
    """
    given = sums(amounts, tax_percent)
    tax = left.tax if given.subtotal == left.subtotal else min(given.tax, left.tax)
    return Sums(given.subtotal, tax)


def _fee(span: Span) -> Line | None:
    fee = span.plan.monthly_fee
    if not fee:
        return None
    length = months.length(span.starts)
    part = "" if span.is_whole else f", {span.days} of {length} days"
    exact = (fee * span.days / length).quantize(SMALLEST, ROUND_HALF_EVEN)
    return Line(LineKind.FEE, f"{span.plan.name}, monthly fee{part}", span, exact=exact, unit_price=fee)


def _overage(span: Span, tokens: int) -> Line | None:
    price, over = span.plan.overage_price, tokens - span.included_tokens
    if price is None or over <= 0:
        return None
    exact = (over * price / MILLION).quantize(SMALLEST, ROUND_HALF_EVEN)
    description = f"Tokens over the {span.included_tokens:,} included in {span.plan.name}"
    return Line(LineKind.OVERAGE, description, span, exact=exact, tokens=over, unit_price=price)
