"""Handing invoices to a payment provider and hearing from it: against a server that speaks Stripe's calls."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.core.cache import cache
from django.test import Client

from billing import tasks
from billing.models import BillingAccount, Invoice, IssuedDocument, Payment
from billing.payments import NotTaken
from billing.payments.stripe import _due
from billing.services import credits, invoices, payments
from billing.tests import scene
from billing.tests.scene import JUST_AFTER, MONTH, called
from billing.vocabulary import PaymentStatus
from chatplatform import tenancy
from chatplatform.api.problem import Problem
from chatplatform.testing.stripe_standin import StripeStandIn, running_stripe
from tenants.selectors import TenantState

CLIENT = Client(enforce_csrf_checks=True)


@pytest.fixture(scope="module")
def server() -> Iterator[StripeStandIn]:
    with running_stripe() as running, pytest.MonkeyPatch.context() as patched:
        patched.setattr("billing.payments.stripe.TRIES", 0)  # each failure is to be seen
        yield running


@pytest.fixture
def stripe(server: StripeStandIn, settings: Any) -> StripeStandIn:
    """Stripe with nothing in it, and the settings that lead to it."""
    server.__init__(server.address)  # type: ignore[misc]
    settings.STRIPE_API_KEY = server.KEY
    settings.STRIPE_API_BASE = server.address
    settings.STRIPE_WEBHOOK_SECRET = server.WEBHOOK_SECRET
    return server


@pytest.fixture
def document(acme: TenantState, stripe: StripeStandIn) -> IssuedDocument:
    """An invoice over 12.30 and 20 % tax."""
    return issued(acme)


def issued(acme: TenantState, charged: str = "10") -> IssuedDocument:
    scene.issuer()
    scene.on_plan(acme.ref)
    scene.account(acme.ref, tax_percent=Decimal(20), legal_name="Acme Inc.", email="pay@acme.example")
    with tenancy.in_tenant(acme.ref):
        called(charged, model="a")
        called("2.30", model="b")
        called("0", model="c")
    found = invoices.issue(scene.tenant(acme.ref), MONTH, now=JUST_AFTER).document
    assert found is not None
    return found


def status(document: IssuedDocument) -> str:
    with tenancy.in_platform():
        document.refresh_from_db()
    return document.payment_status


def words(acme: TenantState) -> list[tuple[str, Decimal]]:
    with tenancy.in_tenant(acme.ref):
        return list(Payment.objects.order_by("at", "id").values_list("status", "amount"))


def sent(document: IssuedDocument, stripe: StripeStandIn) -> dict[str, Any]:
    payments.hand_over(document.document)
    [invoice] = stripe.invoices.values()
    return invoice


def say(stripe: StripeStandIn, body: bytes, signature: str | None = None) -> int:
    headers = {
        "host": "localhost",
        "Stripe-Signature": stripe.signature(body) if signature is None else signature,
    }
    return CLIENT.post("/webhooks/stripe", body, content_type="application/json", headers=headers).status_code


# --- Handing over -------------------------------------------------------------------------------------------------
def test_an_invoice_arrives_line_by_line(
    acme: TenantState, document: IssuedDocument, stripe: StripeStandIn
) -> None:
    assert status(document) == PaymentStatus.WAITING
    invoice = sent(document, stripe)
    assert (invoice["status"], invoice["total"], invoice["number"]) == ("open", 1476, "INV-000001")
    assert [item["amount"] for item in stripe.items.values()] == [1000, 230, 0, 246]
    assert invoice["metadata"]["document"] == str(document.document)
    [customer] = stripe.customers.values()
    assert (customer["name"], customer["email"]) == ("Acme Inc.", "pay@acme.example")
    with tenancy.in_platform():
        assert BillingAccount.objects.get(tenant_id=acme.ref.id).payment_customer == customer["id"]
    assert status(document) == PaymentStatus.SENT
    with tenancy.in_tenant(acme.ref):
        assert Payment.objects.get().url.endswith(invoice["id"])


def test_it_is_handed_over_once(document: IssuedDocument, stripe: StripeStandIn) -> None:
    sent(document, stripe)
    asked = len(stripe.requests)
    payments.hand_over(document.document)
    assert len(stripe.requests) == asked


@pytest.mark.parametrize("forgets", [False, True])
@pytest.mark.parametrize(
    "lost", ["/v1/customers", "/v1/invoices", "/v1/invoiceitems", r"/v1/invoices/\w+/finalize"]
)
def test_what_broke_off_is_taken_up_without_doing_anything_twice(
    document: IssuedDocument, stripe: StripeStandIn, lost: str, forgets: bool
) -> None:
    stripe.fail_at = lost
    with pytest.raises(NotTaken, match="HTTP 500"):
        payments.hand_over(document.document)
    assert status(document) == PaymentStatus.WAITING
    if forgets:
        stripe.forget_keys()
    invoice = sent(document, stripe)
    assert (invoice["status"], invoice["total"], len(stripe.items)) == ("open", 1476, 4)
    assert status(document) == PaymentStatus.SENT


def test_an_overdue_invoice_is_due_at_the_same_time_whenever_it_is_sent_in_a_day() -> None:
    """What is sent under one idempotency key has to be the same; on another day the key is another, too."""
    noon, day = datetime(2026, 3, 14, 12, tzinfo=UTC), timedelta(days=1)
    overdue, in_time = date(2026, 3, 1), date(2026, 4, 1)
    due = _due(overdue, noon)
    assert due == _due(overdue, noon + timedelta(seconds=1)) > noon.timestamp()
    assert _due(overdue, noon + day) == due + 86400
    assert _due(in_time, noon) == _due(in_time, noon + day) > due


def test_a_sum_that_is_not_ours_is_never_asked_for(document: IssuedDocument, stripe: StripeStandIn) -> None:
    payments.hand_over(document.document)
    invoice = next(iter(stripe.invoices.values()))
    invoice["status"], invoice["total"] = "draft", 99_999
    with tenancy.in_platform():
        IssuedDocument.objects.update(payment_status=PaymentStatus.WAITING)
    with pytest.raises(NotTaken, match="stays a draft"):
        payments.hand_over(document.document)
    assert invoice["status"] == "draft"


def test_the_provider_being_away_keeps_nothing_from_being_issued(
    acme: TenantState, stripe: StripeStandIn, settings: Any
) -> None:
    settings.STRIPE_API_BASE = "http://127.0.0.1:9"
    found = issued(acme)
    with pytest.raises(NotTaken):
        payments.hand_over(found.document)
    assert scene.invoice(found).total == Decimal("14.76")
    assert payments.hand_over_waiting() == 1


def test_the_job_tries_again(document: IssuedDocument, stripe: StripeStandIn) -> None:
    stripe.fail_next = [500, 503]
    tasks.hand_over.apply((str(document.document),)).get()
    assert status(document) == PaymentStatus.SENT
    assert tasks.hand_over.name == "billing.hand_over"


def test_without_a_provider_nothing_waits_and_nothing_is_sent(acme: TenantState, settings: Any) -> None:
    settings.STRIPE_API_KEY = ""
    found = issued(acme)
    assert status(found) == ""
    payments.hand_over(found.document)
    assert words(acme) == []
    with pytest.raises(Problem, match="no payment provider"):
        payments.send_again(found)
    payments.record_by_hand(found, Decimal("14.76"), "Bank transfer", "ann")
    assert status(found) == PaymentStatus.PAID


def test_what_was_issued_before_there_was_a_provider_can_be_sent(
    acme: TenantState, stripe: StripeStandIn, settings: Any
) -> None:
    settings.STRIPE_API_KEY = ""
    found = issued(acme)
    settings.STRIPE_API_KEY = stripe.KEY
    with tenancy.in_platform():
        payments.send_again(found)
    assert sent(found, stripe)["status"] == "open"
    with tenancy.in_platform(), pytest.raises(Problem, match="already"):
        payments.send_again(found)


# --- Hearing ------------------------------------------------------------------------------------------------------
def test_paid_and_refunded(acme: TenantState, document: IssuedDocument, stripe: StripeStandIn) -> None:
    invoice = stripe.pay(sent(document, stripe)["id"])
    soon = int(time.time()) + 1
    assert say(stripe, stripe.event("invoice.paid", invoice, created=soon)) == 200
    assert status(document) == PaymentStatus.PAID
    assert say(stripe, stripe.event("charge.refunded", refund(invoice, 276), created=soon)) == 200
    assert status(document) == PaymentStatus.PAID, "of a part"
    charge = refund(invoice, 1476)
    assert say(stripe, stripe.event("charge.refunded", charge, created=soon + 1)) == 200
    assert status(document) == PaymentStatus.REFUNDED
    assert words(acme)[1:] == [
        ("paid", Decimal("14.76")), ("paid", Decimal("12.00")), ("refunded", Decimal("14.76")),
    ]  # fmt: skip
    with tenancy.in_tenant(acme.ref):
        assert Payment.objects.get(amount=12).detail == "2.76 of it was refunded"


def refund(invoice: dict[str, Any], cents: int) -> dict[str, Any]:
    """The charge that paid an invoice, after so much was given back."""
    return {
        "id": "ch_1", "payment_intent": f"pi_{invoice['id']}", "amount": invoice["total"],
        "amount_refunded": cents, "refunded": cents == invoice["total"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "then"),
    [("invoice.payment_failed", PaymentStatus.FAILED), ("invoice.voided", PaymentStatus.VOIDED)],
)
def test_failed_and_voided(document: IssuedDocument, stripe: StripeStandIn, kind: str, then: str) -> None:
    invoice = sent(document, stripe)
    assert say(stripe, stripe.event(kind, invoice, created=int(time.time()) + 1)) == 200
    assert status(document) == then


def test_the_same_word_twice_is_written_once(
    acme: TenantState, document: IssuedDocument, stripe: StripeStandIn
) -> None:
    invoice = stripe.pay(sent(document, stripe)["id"])
    body = stripe.event("invoice.paid", invoice, event_id="evt_same", created=int(time.time()) + 1)
    assert [say(stripe, body), say(stripe, body)] == [200, 200]
    assert len(words(acme)) == 2


def test_an_older_word_that_comes_later_changes_nothing(
    document: IssuedDocument, stripe: StripeStandIn
) -> None:
    invoice = stripe.pay(sent(document, stripe)["id"])
    soon = int(time.time()) + 10
    say(stripe, stripe.event("invoice.paid", invoice, created=soon))
    assert say(stripe, stripe.event("invoice.payment_failed", invoice, created=soon - 5)) == 200
    assert status(document) == PaymentStatus.PAID


def test_what_is_not_signed_is_refused(
    acme: TenantState, document: IssuedDocument, stripe: StripeStandIn
) -> None:
    invoice = sent(document, stripe)
    body = stripe.event("invoice.paid", invoice)
    old = stripe.signature(body, at=int(time.time()) - 3600)
    forged = stripe.signature(body, secret="whsec_other")
    for signature in ("", "nonsense", "t=1,v1=\u00e9", old, forged, stripe.signature(body + b" ")):
        assert say(stripe, body, signature) == 400
    assert say(stripe, b"\xff\xfe", "t=1,v1=a") == 400
    assert len(words(acme)) == 1


def test_without_a_provider_the_webhook_refuses(db: None, stripe: StripeStandIn, settings: Any) -> None:
    settings.STRIPE_API_KEY = ""
    body = stripe.event("invoice.paid", {})
    assert say(stripe, body) == 400


def test_what_is_not_about_our_invoices_is_taken_and_forgotten(
    acme: TenantState, document: IssuedDocument, stripe: StripeStandIn
) -> None:
    invoice = sent(document, stripe)
    other = {**invoice, "metadata": {"document": str(UUID(int=7))}}
    for kind, said in (
        ("customer.created", {}),
        ("invoice.paid", {**invoice, "metadata": {}}),
        ("invoice.paid", other),
        ("charge.refunded", {"id": "ch_2", "payment_intent": None, "amount_refunded": 5}),
        ("charge.refunded", {"id": "ch_3", "payment_intent": "pi_elsewhere", "amount_refunded": 5}),
    ):
        assert say(stripe, stripe.event(kind, said)) == 200
    assert len(words(acme)) == 1


def test_a_refund_that_cannot_be_looked_up_is_to_be_said_again(
    document: IssuedDocument, stripe: StripeStandIn
) -> None:
    invoice = stripe.pay(sent(document, stripe)["id"])
    body = stripe.event("charge.refunded", refund(invoice, 1476), created=int(time.time()) + 1)
    stripe.fail_next = [500]
    assert say(stripe, body) == 503
    assert say(stripe, body) == 200
    assert status(document) == PaymentStatus.REFUNDED


def test_a_payment_of_which_no_word_came_is_found_out(
    acme: TenantState, document: IssuedDocument, stripe: StripeStandIn
) -> None:
    invoice = sent(document, stripe)
    assert payments.ask_about_open() == 0
    assert len(words(acme)) == 1  # that it is open is no news
    stripe.pay(invoice["id"])
    stripe.fail_next = [500]
    assert payments.ask_about_open() == 0
    assert payments.ask_about_open() == 1
    assert status(document) == PaymentStatus.PAID
    asked = len(stripe.requests)
    assert payments.ask_about_open() == 0
    assert len(stripe.requests) == asked


def test_more_open_ones_than_are_asked_at_once_are_asked_by_turns(
    acme: TenantState, globex: TenantState, stripe: StripeStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payments, "ASKED_AT_ONCE", 1)
    with tenancy.in_platform():
        cache.delete(payments.LAST_ASKED)
    for document in (issued(acme), issued(globex)):
        payments.hand_over(document.document)
    before = len(stripe.requests)
    for _ in range(3):
        payments.ask_about_open()
    first, second, third = stripe.requests[before:]
    assert first == third != second


def test_nothing_is_asked_for_once_all_of_it_is_credited(
    acme: TenantState, document: IssuedDocument, stripe: StripeStandIn
) -> None:
    credits.credit(acme.ref, document.document, "Twice by mistake")
    payments.hand_over(document.document)
    assert not stripe.invoices
    assert status(document) == "", "and nothing waits"


def credited(acme: TenantState, document: IssuedDocument, amount: str | None = None) -> IssuedDocument:
    """A credit note over so much of the first line, or over all, after its job."""
    with tenancy.in_tenant(acme.ref):
        line = Invoice.objects.get(id=document.document).lines.get(position=1).id
    some = {line: Decimal(amount)} if amount else None
    note = credits.credit(acme.ref, document.document, "Too much", some)
    payments.hand_over(note.document)
    return note


def test_a_credit_note_follows_its_invoice(
    acme: TenantState, document: IssuedDocument, stripe: StripeStandIn
) -> None:
    invoice = sent(document, stripe)
    note = credited(acme, document, "2")
    [there] = stripe.notes.values()
    assert (there["invoice"], there["total"], there["metadata"]["number"]) == (invoice["id"], 240, note.name)
    assert [line["unit_amount"] for line in there["lines"].values()] == ["200", "40"]
    assert (invoice["status"], invoice["amount_remaining"]) == ("open", 1236)
    assert status(note) == PaymentStatus.SENT
    payments.hand_over(note.document)
    payments.ask_about_open()
    assert len(stripe.notes) == 1
    credited(acme, document)
    assert (invoice["status"], invoice["amount_remaining"]) == ("paid", 0), "nothing is open any more"


def test_what_was_paid_and_is_credited_is_kept_for_the_next_invoice(
    acme: TenantState, document: IssuedDocument, stripe: StripeStandIn
) -> None:
    stripe.pay(sent(document, stripe)["id"])
    credited(acme, document, "2")
    [note] = stripe.notes.values()
    assert note["credit_amount"] == "240"


@pytest.mark.parametrize("forgets", [False, True])
def test_a_credit_note_whose_answer_was_lost_is_made_once(
    acme: TenantState, document: IssuedDocument, stripe: StripeStandIn, forgets: bool
) -> None:
    sent(document, stripe)
    note = credits.credit(acme.ref, document.document, "Too much")
    stripe.fail_at = "POST /v1/credit_notes"
    with pytest.raises(NotTaken, match="HTTP 500"):
        payments.hand_over(note.document)
    if forgets:
        stripe.forget_keys()
    payments.hand_over(note.document)
    assert len(stripe.notes) == 1 and status(note) == PaymentStatus.SENT


def test_a_credit_note_waits_for_its_invoice_and_stays_if_that_is_not_sent(
    acme: TenantState, document: IssuedDocument, stripe: StripeStandIn
) -> None:
    with pytest.raises(NotTaken, match="first"):
        credited(acme, document, "2")
    note = credits.credit(acme.ref, document.document, "The rest")
    payments.hand_over(document.document)
    payments.hand_over(note.document)
    assert status(note) == "" and not stripe.requests


def test_of_a_voided_invoice_nothing_is_credited(
    acme: TenantState, document: IssuedDocument, stripe: StripeStandIn
) -> None:
    sent(document, stripe)["status"] = "void"
    assert status(credited(acme, document)) == "" and not stripe.notes
