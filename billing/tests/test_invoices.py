"""Issuing invoices: exact lines, numbers without a gap, once and for all."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection

from billing import invoices as reading
from billing.models import Hold, Invoice, InvoiceLine, IssuedDocument, Issuer, Plan, PlanVersion, Subscription
from billing.services import invoices, plans
from billing.services.drafts import draft, spans_of
from billing.tests import scene
from billing.tests.scene import JUST_AFTER, MONTH, called
from billing.vocabulary import CallOutcome, EntryKind, LineKind, UsageBilling
from chatplatform import tenancy
from chatplatform.api.problem import Problem
from chatplatform.postgres.models import uuid7
from tenants.models import Tenant
from tenants.selectors import TenantState
from tenants.services import lifecycle


@pytest.fixture
def one(acme: TenantState) -> Tenant:
    """Acme, with an issuer and a plan that charges what calls cost."""
    scene.issuer()
    scene.on_plan(acme.ref)
    return scene.tenant(acme.ref)


def issue(tenant: Tenant, month: date = MONTH) -> invoices.Issued:
    return invoices.issue(tenant, month, now=JUST_AFTER)


def lines(tenant: Tenant) -> list[InvoiceLine]:
    document = issue(tenant).document
    assert document is not None
    with tenancy.in_tenant(tenant.ref):
        return list(InvoiceLine.objects.filter(invoice_id=document.document))


# --- What it says ------------------------------------------------------------------------------------------------
def test_usage_by_cost_is_the_sum_of_the_calls_of_each_model(one: Tenant) -> None:
    with tenancy.in_tenant(one.ref):
        called("0.000000001", model="a", input_tokens=5, output_tokens=2)
        called("1.234999999", model="a", day=date(2026, 4, 30), input_tokens=1)
        called("2.5", model="b")
        called("7", model="b", day=date(2026, 5, 1))  # another month's
    first, second = lines(one)
    assert (first.model, first.calls, first.tokens, first.exact, first.amount) == (
        "a",
        2,
        8,
        Decimal("1.235"),
        Decimal("1.24"),  # half a cent goes to the even one
    )
    assert (second.model, second.amount) == ("b", Decimal("2.50"))
    invoice = scene.invoice(issue(one).document)
    assert (invoice.subtotal, invoice.tax, invoice.total) == (Decimal("3.74"), 0, Decimal("3.74"))


def test_what_was_not_called_or_came_from_the_cache_is_no_call(one: Tenant) -> None:
    with tenancy.in_tenant(one.ref):
        called("0.10", input_tokens=10)
        called("0", input_tokens=99, sequence=2, kind=EntryKind.CACHE_HIT)
        called("0", sequence=3, outcome=CallOutcome.SKIPPED)
        called("0", model="never-called", outcome=CallOutcome.SKIPPED)
    [line] = lines(one)
    assert (line.calls, line.tokens) == (1, 10)


def test_tokens_over_those_included_are_charged_by_the_million(acme: TenantState) -> None:
    scene.issuer()
    scene.on_plan(
        acme.ref,
        usage_billing=UsageBilling.TOKENS,
        monthly_fee=Decimal("49"),
        included_tokens=1_000,
        overage_price=Decimal("2.5"),
    )
    with tenancy.in_tenant(acme.ref):
        called("9", model="a", input_tokens=1_000_000)
        called("9", model="b", output_tokens=41_000)
    fee, first, second, overage = lines(scene.tenant(acme.ref))
    assert (fee.kind, fee.amount) == (LineKind.FEE, Decimal("49.00"))
    assert [(line.tokens, line.amount) for line in (first, second)] == [(1_000_000, 0), (41_000, 0)]
    assert (overage.tokens, overage.exact, overage.amount) == (1_040_000, Decimal("2.6"), Decimal("2.60"))


def test_a_plan_that_sells_no_more_charges_no_more(acme: TenantState) -> None:
    scene.issuer()
    scene.on_plan(acme.ref, usage_billing=UsageBilling.TOKENS, included_tokens=10, overage_price=None)
    with tenancy.in_tenant(acme.ref):
        called("1", input_tokens=1_000)
    [line] = lines(scene.tenant(acme.ref))
    assert (line.kind, line.amount) == (LineKind.USAGE, 0)


def test_a_month_with_two_plans_is_split_by_days(acme: TenantState) -> None:
    scene.issuer()
    scene.on_plan(acme.ref, monthly_fee=Decimal("10"))
    scene.on_plan(
        acme.ref,
        date(2026, 4, 11),
        usage_billing=UsageBilling.TOKENS,
        monthly_fee=Decimal("100"),
        included_tokens=100,
        overage_price=Decimal(1_000_000),
    )
    with tenancy.in_tenant(acme.ref):
        called("5", day=date(2026, 4, 10), input_tokens=1)
        called("5", day=date(2026, 4, 11), input_tokens=70)
    shown = [
        (line.kind, line.starts.day, line.ends.day, line.amount) for line in lines(scene.tenant(acme.ref))
    ]
    assert shown == [
        ("fee", 1, 10, Decimal("3.33")),
        ("usage", 1, 10, Decimal("5.00")),
        ("fee", 11, 30, Decimal("66.67")),
        ("usage", 11, 30, Decimal("0.00")),
        ("overage", 11, 30, Decimal("3.00")),  # 67 of 100 tokens are included in 20 of 30 days
    ]


def test_a_plan_that_is_changed_does_not_change_the_days_before(acme: TenantState) -> None:
    """April is over, and not invoiced yet, when staff raises the fee: first in that month, then today."""
    scene.issuer()
    tenant = scene.tenant(acme.ref)
    plan = scene.on_plan(acme.ref, monthly_fee=Decimal("10"))
    for fee, starts in (("100", date(2026, 4, 11)), ("1000", None)):
        plan.monthly_fee = Decimal(fee)
        plans.save(plan)
        plans.save(plan)  # nothing is new
        if starts:
            with tenancy.in_platform():
                today = PlanVersion.objects.filter(plan=plan, starts__gt=starts)
                assert today.update(starts=starts) == 1
    shown = [(line.starts.day, line.ends.day, f"{line.amount}", line.unit_price) for line in lines(tenant)]
    assert shown == [(1, 10, "3.33", Decimal(10)), (11, 30, "66.67", Decimal(100))]
    with tenancy.in_platform():
        assert list(plan.versions.values_list("monthly_fee", flat=True)) == [10, 100, 1000]


def test_a_tenant_is_billed_from_the_day_of_its_birth(one: Tenant) -> None:
    one.created_at = datetime(2026, 4, 21, 15, tzinfo=UTC)
    with tenancy.in_platform():
        [span] = spans_of(one, MONTH)
        assert (span.starts, span.days) == (date(2026, 4, 21), 10)
        assert spans_of(one, date(2026, 3, 1)) == []


def test_without_a_subscription_the_plan_is_the_tiers(acme: TenantState) -> None:
    scene.issuer()
    with tenancy.in_platform():
        Subscription.objects.filter(tenant_id=acme.ref.id).delete()
        Plan.objects.update_or_create(
            code=acme.tier, defaults={"monthly_fee": Decimal("12.34"), "name": "Tier"}
        )
    [fee] = lines(scene.tenant(acme.ref))
    assert fee.amount == Decimal("12.34")
    with tenancy.in_platform():
        Plan.objects.filter(code=acme.tier).delete()
    with pytest.raises(Problem, match="no plan"):
        draft(scene.tenant(acme.ref), MONTH)


def test_tax_is_rounded_once(one: Tenant) -> None:
    scene.account(one.ref, tax_percent=Decimal("8.875"), legal_name="Acme Inc.", address="1 Road\nTown")
    with tenancy.in_tenant(one.ref):
        called("1.004", model="a")
        called("1.004", model="b")
    invoice = scene.invoice(issue(one).document)
    assert (invoice.subtotal, invoice.tax, invoice.total) == (
        Decimal("2.00"),
        Decimal("0.18"),
        Decimal("2.18"),
    )
    assert invoice.recipient["name"] == "Acme Inc."


def test_nothing_used_and_no_fee_is_no_invoice(one: Tenant) -> None:
    assert issue(one).document is None
    with tenancy.in_platform():
        assert Issuer.objects.get(is_default=True).next_number == 1


def test_a_suspended_tenant_is_billed(one: Tenant) -> None:
    with tenancy.in_tenant(one.ref):
        called("1")
    lifecycle.suspend("acme")
    assert one in invoices.billed_tenants(MONTH)


# --- Back to the calls --------------------------------------------------------------------------------------------
def test_every_cent_leads_back_to_calls(one: Tenant, globex: TenantState) -> None:
    with tenancy.in_tenant(globex.ref):
        called("100", model="a")
    with tenancy.in_tenant(one.ref):
        for number in range(20):
            called(Decimal(number) / 7, model="ab"[number % 2], day=MONTH + timedelta(days=number))
    issued = issue(one).document
    assert issued is not None
    with tenancy.in_tenant(one.ref):
        for line in reading.document(issued.document).lines:
            assert sum(entry.charged_usd for entry in reading.entries(line)) == line.exact
        assert sum(reading.entries(line).count() for line in InvoiceLine.objects.all()) == 20


# --- Once and for all ---------------------------------------------------------------------------------------------
def test_issuing_twice_changes_nothing(one: Tenant) -> None:
    with tenancy.in_tenant(one.ref):
        called("1")
    first = issue(one)
    before = scene.invoice(first.document)
    second = issue(one)
    assert first.is_new and not second.is_new
    assert first.document == second.document
    assert scene.invoice(second.document).issued_at == before.issued_at
    with tenancy.in_platform():
        assert Issuer.objects.get(is_default=True).next_number == 2


def test_a_crash_in_between_leaves_no_gap(one: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    with tenancy.in_tenant(one.ref):
        called("1")

    def crash(*_: object) -> None:
        raise RuntimeError("The power went out.")

    with monkeypatch.context() as patched:
        patched.setattr(invoices, "_lines", crash)  # the number is taken, the invoice is written
        with pytest.raises(RuntimeError):
            issue(one)
    with tenancy.in_platform():
        assert not IssuedDocument.objects.exists()
    issued = issue(one).document
    assert issued is not None
    assert (issued.number, issued.name) == (1, "INV-000001")


def test_a_call_that_comes_late_is_told_of(one: Tenant) -> None:
    with tenancy.in_tenant(one.ref):
        called("1")
        issue(one)
        called("1", model="other")
    assert issue(one).late == 1


def test_a_month_is_not_issued_before_it_is_over_and_settled(one: Tenant) -> None:
    with tenancy.in_tenant(one.ref):
        called("1")
    for too_early in (datetime(2026, 4, 30, 23, tzinfo=UTC), datetime(2026, 5, 1, 0, 59, tzinfo=UTC)):
        with pytest.raises(Problem, match="can be invoiced from 2026-05-01 01:00"):
            invoices.issue(one, MONTH, now=too_early)
    with tenancy.in_tenant(one.ref):
        hold = Hold.objects.create(
            reply=uuid7(), attempt=1, conversation=uuid7(), day=date(2026, 4, 30), taken_at=JUST_AFTER
        )
    with pytest.raises(Problem, match="not settled"):
        issue(one)
    with tenancy.in_tenant(one.ref):
        hold.delete()
    assert issue(one).is_new


def test_two_issuers_whose_numbers_look_alike_are_told_apart(one: Tenant) -> None:
    with tenancy.in_tenant(one.ref):
        called("1")
        called("1", day=date(2026, 3, 1))
    assert issue(one).is_new
    other = scene.issuer(name="Another Ltd")
    with pytest.raises(Problem) as refused:
        issue(one, date(2026, 3, 1))
    assert "INV-000001" in str(refused.value.more["errors"])
    with tenancy.in_platform():
        Issuer.objects.filter(id=other.id).update(number_format="A-{number}")
    assert issue(one, date(2026, 3, 1)).document.name == "A-1"  # type: ignore[union-attr]


def test_a_wrong_number_format_is_refused_without_using_a_number(one: Tenant) -> None:
    with tenancy.in_tenant(one.ref):
        called("1")
    with tenancy.in_platform():
        Issuer.objects.update(number_format="{nonsense}")
    with pytest.raises(Problem, match="format"):
        issue(one)
    with tenancy.in_platform():
        Issuer.objects.update(number_format="{year}-{number:04d}")
    document = issue(one).document
    assert document is not None and document.name == "2026-0001"


@pytest.mark.slow
def test_a_hundred_thousand_calls_add_up(one: Tenant) -> None:
    with tenancy.in_tenant(one.ref), connection.cursor() as cursor:
        cursor.execute(FILL, [100_000])
    sums = {
        f"gpt-{model}": sum(n % 9973 for n in range(1, 100_001) if n % 12 == model) * Decimal("9e-9")
        for model in range(12)
    }
    document = issue(one).document
    assert document is not None
    with tenancy.in_tenant(one.ref):
        shown = reading.document(document.document)
        assert {line.model: line.exact for line in shown.lines} == sums
        assert sum(line.calls for line in shown.lines) == 100_000
        assert sum(line.amount for line in shown.lines) == shown.invoice.subtotal
        assert Invoice.objects.count() == 1
    assert issue(one).document == document


FILL = """
    INSERT INTO billing_ledgerentry (
        id, kind, reply, conversation, attempt, sequence, day, provider, model, outcome, error, phase, finish_reason,
        total_ms, input_tokens, cached_input_tokens, cache_write_input_tokens, output_tokens, estimated, input_price,
        cached_input_price, cache_write_price, output_price, markup_percent, cost_usd, charged_usd, saved_usd,
        started_at)
    SELECT gen_random_uuid(), 'call', gen_random_uuid(), gen_random_uuid(), 1, 1, DATE '2026-04-01' + (n %% 30),
        'openai', 'gpt-' || n %% 12, 'completed', '', '', 'stop', 900, 400 + n %% 700, 0, 0, 100 + n %% 90, false,
        1.25, 0.125, 0, 10, 20, (n %% 9973) * 0.000000007, (n %% 9973) * 0.000000009, 0,
        TIMESTAMPTZ '2026-04-01 00:00Z' + (n %% 30) * INTERVAL '1 day'
    FROM generate_series(1, %s) AS n
"""
