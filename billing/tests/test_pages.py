"""The console's pages about invoices: what they show, to whom, and what they do."""

from __future__ import annotations

import csv
import io
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry

from billing.models import Invoice, InvoiceLine, IssuedDocument
from billing.services import credits, invoices, payments
from billing.tests import scene
from billing.tests.scene import JUST_AFTER, MONTH, called
from chatplatform import tenancy
from chatplatform.testing.audit import written
from tenants.selectors import TenantState
from tenants.tests.console import Console, person
from tenants.vocabulary import AuditAction

LIST = "billing/issueddocument/"
ALL = ("billing.view_issueddocument", "billing.add_issueddocument", "billing.change_issueddocument")


@pytest.fixture
def boss(db: None) -> Console:
    return Console(person("boss", superuser=True))


@pytest.fixture
def row(acme: TenantState) -> IssuedDocument:
    """Acme's invoice over 10 and 2.50, with 20 % tax."""
    scene.issuer(name="Operator Ltd", payment_note="Pay to IBAN 42")
    scene.on_plan(acme.ref)
    scene.account(acme.ref, tax_percent=Decimal(20), legal_name="Acme <Inc.>", address="1 Road\nTown")
    with tenancy.in_tenant(acme.ref):
        called("10", model="gpt-5", input_tokens=1_234_567)
        called("2.5", model="=HYPERLINK(1)")
    issued = invoices.issue(scene.tenant(acme.ref), MONTH, now=JUST_AFTER).document
    assert issued is not None
    return issued


def page(row: IssuedDocument, name: str = "change/") -> str:
    return f"{LIST}{row.pk}/{name}"


def table(answer: Any) -> list[dict[str, str]]:
    """A download's rows."""
    assert answer.status_code == 200
    return list(csv.DictReader(io.StringIO(answer.content.decode())))


def test_the_list_has_the_documents_of_all_tenants(row: IssuedDocument, boss: Console) -> None:
    text = boss.text(LIST, tenant_slug="acme")
    assert "INV-000001" in text and "$" not in row.name
    assert "INV-000001" not in boss.text(LIST, kind__exact="credit_note")


@pytest.mark.parametrize("name", ["change/", "page/"])
def test_a_person_can_read_it(row: IssuedDocument, boss: Console, name: str) -> None:
    text = boss.text(page(row, name))
    for said in (
        "Invoice",
        "INV-000001",
        "Operator Ltd",
        "Acme &lt;Inc.&gt;",
        "1 Road<br>Town",
        "$12.50",
        "1,234,567",
    ):
        assert said in text
    for said in ("$2.50", "$15.00", "Tax, 20 %", "April 2026", "Pay to IBAN 42"):
        assert said in text


def test_a_look_is_logged_before_it_happens(row: IssuedDocument, boss: Console) -> None:
    boss.text(page(row))
    assert written()[-1] == (AuditAction.INVOICE_READ, str(row.document), {})


def test_what_is_done_with_it_is_in_the_audit_log(acme: TenantState, row: IssuedDocument) -> None:
    note = credits.credit(acme.ref, row.document, "All of it")
    payments.record_by_hand(row, Decimal(15), "Cash", "ann")
    issued, credited, paid = written(kinds=["invoice"])[-3:]
    number = {"number": "INV-000001"}
    assert issued == (AuditAction.INVOICE_ISSUED, str(row.document), {**number, "total": "15.00"})
    assert credited == (
        AuditAction.INVOICE_CREDITED,
        str(note.document),
        {"number": "INV-000002", "corrects": "INV-000001", "total": "-15.00"},
    )
    assert paid == (AuditAction.INVOICE_PAID, str(row.document), {**number, "amount": "15"})


def test_json_and_csv_say_the_same(row: IssuedDocument, boss: Console) -> None:
    document = boss.get(page(row, "file.json")).json()
    assert (document["number"], document["subtotal"], document["tax"], document["total"]) == (
        "INV-000001",
        "12.50",
        "2.50",
        "15.00",
    )
    rows = table(boss.get(page(row, "file.csv")))
    assert [one["amount"] for one in rows] == ["2.50", "10.00", "12.50", "2.50", "15.00"]
    assert rows[0]["model"] == "'=HYPERLINK(1)"  # no formula in anybody's spreadsheet
    assert [line["amount"] for line in document["lines"]] == ["2.50", "10.00"]


def test_the_calls_behind_a_line_are_a_download(row: IssuedDocument, boss: Console) -> None:
    """What is in it: see test_calls.py."""
    line = boss.get(page(row, "file.json")).json()["lines"][1]["id"]
    answer = boss.get(page(row, f"calls/{line}.csv"))
    assert answer.headers["Content-Disposition"] == 'attachment; filename="INV-000001-2-calls.csv"'
    assert boss.get(page(row, f"calls/{row.pk}.csv")).status_code == 404


def test_who_may_what(row: IssuedDocument) -> None:
    nobody = Console(person("nobody"))
    reader = Console(person("reader", "billing.view_issueddocument"))
    writer = Console(person("writer", *ALL))
    line = reader.get(page(row, "file.json")).json()["lines"][0]["id"]
    for name in ("change/", "page/", "file.csv", "file.json"):
        assert nobody.get(page(row, name)).status_code == 403
        assert reader.get(page(row, name)).status_code == 200
    for name in ("credit/", "paid/", f"calls/{line}.csv"):
        assert reader.get(page(row, name)).status_code == 403
    for name in ("credit/", "paid/", "send/"):
        assert reader.post(page(row, name)).status_code == 403
    assert "Credit…" not in reader.text(page(row)) and "its calls" not in reader.text(page(row))
    assert reader.get(f"{LIST}issue/").status_code == 403
    assert "Credit…" in writer.text(page(row))
    assert writer.get(page(row, "send/")).status_code == 405


def test_a_credit_note_is_issued_once_per_form(acme: TenantState, row: IssuedDocument) -> None:
    console = Console(person("writer", *ALL))
    with tenancy.in_tenant(acme.ref):
        first, second = InvoiceLine.objects.all()
    form = {
        "document_id": str(row.pk),
        "reason": "Half",
        f"line_{second.id.hex}": "4.00",
        f"line_{first.id.hex}": "",
    }
    wrong = console.post(page(row, "credit/"), **{**form, f"line_{second.id.hex}": "10.01"})
    assert wrong.status_code == 200 and "less than or equal to 10.00" in wrong.content.decode()
    for _ in range(2):
        assert console.post(page(row, "credit/"), **form).status_code == 302
    with tenancy.in_platform():
        note = IssuedDocument.objects.get(kind="credit_note")
        assert (note.total, note.author) == (Decimal("-4.80"), "writer")
        assert LogEntry.objects.filter(object_id=str(row.pk), change_message__contains="corrected").exists()
    text = console.text(page(note, "page/"))
    nothing = console.post(
        page(row, "credit/"), **{**form, "document_id": str(note.pk), f"line_{second.id.hex}": ""}
    )
    assert "nothing to credit" in nothing.content.decode()
    rest = {"document_id": str(note.pk), "reason": "The rest", "everything": "on"}
    assert console.post(page(row, "credit/"), **rest).status_code == 302
    with tenancy.in_platform():
        assert sum(IssuedDocument.objects.values_list("total", flat=True)) == 0
    assert "Credit note" in text and "−$4.80" in text and "INV-000001" in text and "Half" in text
    assert "INV-000002" in console.text(page(row))


def test_a_payment_by_other_means_is_written_down(row: IssuedDocument, boss: Console) -> None:
    assert boss.post(page(row, "paid/"), amount="15.00", detail="Bank transfer").status_code == 302
    text = boss.text(page(row))
    assert "Paid" in text and "Bank transfer" in text
    refused = boss.post(page(row, "send/"))
    assert refused.status_code == 302 and "There is no payment provider" in boss.text(page(row))


def test_an_invoice_is_shown_before_it_is_issued(acme: TenantState, boss: Console) -> None:
    scene.issuer()
    scene.on_plan(acme.ref)
    tenant = scene.tenant(acme.ref)
    asked = {"tenant": str(tenant.pk), "month": "2026-04"}
    assert "nothing to bill" in boss.text(f"{LIST}issue/", **asked)
    with tenancy.in_tenant(acme.ref):
        called("3.21")
    assert "$3.21" in boss.text(f"{LIST}issue/", **asked)
    with tenancy.in_tenant(acme.ref):
        assert not Invoice.objects.exists()
    for _ in range(2):
        assert boss.post(f"{LIST}issue/", **asked).status_code == 302
    with tenancy.in_tenant(acme.ref):
        assert Invoice.objects.get().total == Decimal("3.21")


def test_a_month_that_is_not_over_is_shown_and_not_issued(acme: TenantState, boss: Console) -> None:
    scene.issuer()
    scene.on_plan(acme.ref, monthly_fee=Decimal(7))
    asked = {"tenant": str(acme.ref.id), "month": "2998-12"}
    scene.tenant(acme.ref)
    text = boss.text(f"{LIST}issue/", **asked)
    assert "$7.00" in text and "can be invoiced from 2999-01-01" in text and "Issue it" not in text
    assert "can be invoiced from" in boss.post(f"{LIST}issue/", **asked).content.decode()


def test_a_whole_credit_leaves_nothing_to_credit(
    acme: TenantState, row: IssuedDocument, boss: Console
) -> None:
    credits.credit(acme.ref, row.document, "All of it")
    text = boss.text(page(row))
    assert "Credit…" not in text and "$15.00 of $15.00" in text
