"""Credit notes: never more than the invoice, to the cent."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing import invoices as reading
from billing.models import Invoice, IssuedDocument
from billing.services import credits, invoices
from billing.services.credits import left_of
from billing.tests import scene
from billing.tests.scene import JUST_AFTER, MONTH, called
from chatplatform import tenancy
from chatplatform.api.problem import Problem
from chatplatform.postgres.models import uuid7
from tenants.selectors import TenantState

AMOUNTS = st.decimals(Decimal("0.01"), Decimal("5000"), places=9)
PERCENT = st.decimals(Decimal(0), Decimal("30"), places=3)


def issued(acme: TenantState, *charged: Decimal | str, percent: Decimal | str = "20") -> Invoice:
    """An invoice with a line for each amount."""
    scene.issuer()
    scene.on_plan(acme.ref)
    scene.account(acme.ref, tax_percent=Decimal(percent))
    with tenancy.in_tenant(acme.ref):
        for number, amount in enumerate(charged):
            called(amount, model=f"model-{number:03d}")
    return scene.invoice(invoices.issue(scene.tenant(acme.ref), MONTH, now=JUST_AFTER).document)


def test_the_whole_of_an_invoice_is_taken_back(acme: TenantState) -> None:
    invoice = issued(acme, "10.10", "0.90")
    note = scene.invoice(credits.credit(acme.ref, invoice.id, "Billed by mistake", author="ann"))
    assert (note.number, note.subtotal, note.tax, note.total) == (
        "INV-000002",
        Decimal("-11.00"),
        Decimal("-2.20"),
        Decimal("-13.20"),
    )
    with tenancy.in_tenant(acme.ref):
        shown = reading.document(invoice.id)
        assert shown.credited == invoice.total
        assert left_of(invoice).lines == {}
        assert [line.corrects for line in reading.document(note.id).lines] == shown.lines
    with pytest.raises(Problem, match="nothing to credit"):
        credits.credit(acme.ref, invoice.id, "Once more")


def test_a_part_is_taken_back_and_then_no_more_than_the_rest(acme: TenantState) -> None:
    invoice = issued(acme, "10", "5")
    with tenancy.in_tenant(acme.ref):
        first, second = invoice.lines.all()
    credits.credit(acme.ref, invoice.id, "Half of it", {first.id: Decimal("9.99")})
    for refused in (
        {first.id: Decimal("0.02")},
        {second.id: Decimal("-1")},
        {second.id: Decimal("0.001")},
        {uuid7(): 1},
    ):
        with pytest.raises(Problem):
            credits.credit(
                acme.ref, invoice.id, "Too much", {line: Decimal(amount) for line, amount in refused.items()}
            )
    note = scene.invoice(credits.credit(acme.ref, invoice.id, "The rest"))
    assert note.subtotal == Decimal("-5.01")
    with tenancy.in_platform():
        assert list(IssuedDocument.objects.order_by("number").values_list("number", flat=True)) == [1, 2, 3]


def test_the_same_form_sent_twice_is_one_credit_note(acme: TenantState) -> None:
    invoice = issued(acme, "10")
    with tenancy.in_tenant(acme.ref):
        line = invoice.lines.get().id
    form = uuid7()
    twice = [
        credits.credit(acme.ref, invoice.id, "A part", {line: Decimal(1)}, document_id=form) for _ in range(2)
    ]
    assert twice[0] == twice[1]
    with tenancy.in_tenant(acme.ref):
        assert Invoice.objects.count() == 2


def test_another_tenants_invoice_and_a_credit_note_cannot_be_credited(
    acme: TenantState, globex: TenantState
) -> None:
    invoice = issued(acme, "10")
    note = credits.credit(acme.ref, invoice.id, "All of it")
    for tenant, document in ((globex, invoice.id), (acme, note.document)):
        with pytest.raises(IssuedDocument.DoesNotExist):
            credits.credit(tenant.ref, document, "Why not")


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(AMOUNTS, min_size=1, max_size=4), PERCENT, st.data())
def test_credits_end_at_zero_and_never_below(
    acme: TenantState, charged: list[Decimal], percent: Decimal, data: st.DataObject
) -> None:
    with transaction.atomic():
        invoice = issued(acme, *charged, percent=percent)
        for _ in range(data.draw(st.integers(0, 3))):
            _credit_something(acme, invoice, data)
        with tenancy.in_tenant(acme.ref):
            rest = left_of(invoice).lines
        if rest:
            credits.credit(acme.ref, invoice.id, "The rest")
        with tenancy.in_tenant(acme.ref):
            shown = reading.document(invoice.id)
            assert shown.credited == invoice.total
            for note in shown.credit_notes:
                assert note.total == note.subtotal + note.tax
                assert sum(line.amount for line in note.lines.all()) == note.subtotal
                assert note.subtotal < 0 and note.tax <= 0
        transaction.set_rollback(True)


def _credit_something(acme: TenantState, invoice: Invoice, data: st.DataObject) -> None:
    with tenancy.in_tenant(acme.ref):
        left = left_of(invoice)
    most = {line.position: (line.id, amount) for line, amount in left.lines.items()}
    if not most:
        return
    # Places, in order: ids are different each time, and what is drawn must not depend on them.
    some = sorted(data.draw(st.sets(st.sampled_from(sorted(most)), min_size=1)))
    amounts: dict[UUID, Decimal] = {
        most[place][0]: data.draw(st.decimals(Decimal("0.01"), most[place][1], places=2)) for place in some
    }
    note = scene.invoice(credits.credit(acme.ref, invoice.id, "A part", amounts))
    assert -note.subtotal == sum(amounts.values())
    assert -note.subtotal <= left.sums.subtotal and -note.tax <= left.sums.tax
