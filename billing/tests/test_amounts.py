"""The arithmetic of invoices, for any plan and any usage."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from fractions import Fraction

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing import months
from billing.amounts import Span, Usage, cents, credit_sums, lines_of, sums
from billing.models import Plan
from billing.vocabulary import LineKind, UsageBilling

# A busy machine is no fault of the arithmetic.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
MONEY = st.decimals(Decimal(0), Decimal("99999"), places=2)
EXACT = st.decimals(Decimal(0), Decimal("99999"), places=9)
TOKENS = st.integers(0, 10**12)
PLANS = st.builds(
    Plan,
    name=st.just("Plan"),
    monthly_fee=MONEY,
    usage_billing=st.sampled_from(UsageBilling.values),
    included_tokens=TOKENS,
    overage_price=st.none() | EXACT,
)
USAGES = st.lists(
    st.builds(
        Usage, st.just("openai"), st.text("abc", min_size=1), st.integers(0, 10**6), TOKENS, charged=EXACT
    ),
    max_size=6,
)


@st.composite
def spans(draw: st.DrawFn) -> list[Span]:
    """The days of a month, cut anywhere, a plan for each piece."""
    month = date(draw(st.integers(2020, 2030)), draw(st.integers(1, 12)), 1)
    last = months.length(month)
    cuts = sorted(draw(st.sets(st.integers(2, last), max_size=3)))
    ends = [cut - 1 for cut in cuts] + [last]
    return [
        Span(draw(PLANS), month.replace(day=start), month.replace(day=end))
        for start, end in zip([1, *cuts], ends, strict=True)
    ]


@UNHURRIED
@given(spans(), USAGES, st.decimals(Decimal(0), Decimal(30), places=3))
def test_lines_are_what_the_plan_says_to_the_last_unit(
    pieces: list[Span], usages: list[Usage], percent: Decimal
) -> None:
    lines = [line for span in pieces for line in lines_of(span, usages)]
    for line in lines:
        plan, length = line.span.plan, months.length(line.span.starts)
        assert line.exact >= 0 and abs(line.amount - line.exact) <= Decimal("0.005")
        if line.kind == LineKind.FEE:
            exact = Fraction(plan.monthly_fee) * line.span.days / length
            assert abs(Fraction(line.exact) - exact) <= Fraction(1, 2 * 10**9)
        if line.kind == LineKind.OVERAGE:
            assert plan.overage_price is not None
            assert line.tokens == sum(usage.tokens for usage in usages) - line.span.included_tokens > 0
            exact = Fraction(plan.overage_price) * line.tokens / 10**6
            assert abs(Fraction(line.exact) - exact) <= Fraction(1, 2 * 10**9)
    by_cost = [span for span in pieces if span.plan.usage_billing == UsageBilling.COST]
    charged = sum(line.exact for line in lines if line.kind == LineKind.USAGE)
    assert charged == sum(usage.charged for usage in usages) * len(by_cost)
    total = sums((line.amount for line in lines), percent)
    assert total.subtotal == sum(line.amount for line in lines)
    assert total.total == total.subtotal + total.tax == cents(total.total)


@UNHURRIED
@given(spans())
def test_pieces_of_a_month_include_no_less_than_the_whole(pieces: list[Span]) -> None:
    plan = pieces[0].plan
    together = sum(Span(plan, one.starts, one.ends).included_tokens for one in pieces)
    assert plan.included_tokens <= together < plan.included_tokens + len(pieces)


@UNHURRIED
@given(EXACT)
def test_half_a_cent_goes_to_the_even_one(exact: Decimal) -> None:
    rounded = cents(exact)
    assert abs(rounded - exact) <= Decimal("0.005")
    if abs(rounded - exact) == Decimal("0.005"):
        assert int(rounded * 100) % 2 == 0


@UNHURRIED
@given(st.lists(MONEY, min_size=1), st.decimals(Decimal(0), Decimal(30), places=3), st.data())
def test_several_credits_take_back_just_what_was_billed(
    amounts: list[Decimal], percent: Decimal, data: st.DataObject
) -> None:
    billed = left = sums(amounts, percent)
    given = []
    for amount in amounts:
        part = data.draw(st.decimals(Decimal(0), amount, places=2))
        given.append(credit_sums([part], percent, left))
        left = type(left)(left.subtotal - given[-1].subtotal, left.tax - given[-1].tax)
        assert left.subtotal >= 0 and left.tax >= 0
    given.append(credit_sums([left.subtotal], percent, left))
    assert sum(one.total for one in given) == billed.total
