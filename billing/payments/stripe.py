"""Stripe: it collects what our invoices say. Numbers, lines and amounts are ours; Stripe rounds and taxes nothing.

Everything is made under idempotency keys out of our own ids, and before an invoice is made Stripe is asked whether it
has it, because it forgets the keys after a day.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import stripe
from stripe import RequestsClient, StripeClient, StripeError, WebhookSignature

from billing.payments.base import Bill, BillLine, Credit, NotTaken, Unsigned, Word
from billing.vocabulary import PaymentStatus

PATIENCE, SHORT_PATIENCE = 20.0, 4.0  # s; a webhook has to be answered
TRIES = 2
MOST_LINES = 250  # Stripe's own limit for an invoice
LONGEST_NUMBER = 26  # of an invoice at Stripe
SAID = {
    "invoice.paid": PaymentStatus.PAID,
    "invoice.payment_failed": PaymentStatus.FAILED,
    "invoice.voided": PaymentStatus.VOIDED,
}
REFUNDED = "charge.refunded"
STATUSES = {
    "draft": PaymentStatus.SENT,
    "open": PaymentStatus.SENT,
    "paid": PaymentStatus.PAID,
    "void": PaymentStatus.VOIDED,
    "uncollectible": PaymentStatus.FAILED,
}


class Stripe:
    """See `billing.payments.base.PaymentProvider`."""

    name = "stripe"
    takes_invoices = True

    def __init__(self, key: str, base: str, webhook_secret: str) -> None:
        self._secret = webhook_secret
        self._client = _client(key, base, PATIENCE, TRIES)
        self._quick = _client(key, base, SHORT_PATIENCE, 0)

    def customer(self, bill: Bill) -> str:
        if bill.customer:
            return bill.customer
        with _refusals():
            made = self._client.v1.customers.create(
                {
                    "name": bill.name,
                    "metadata": {"tenant": str(bill.tenant)},
                    **({"email": bill.email} if bill.email else {}),
                },
                {"idempotency_key": f"customer-{bill.tenant}-{bill.document}"},
            )
        return made.id

    def send(self, bill: Bill) -> Word:
        with _refusals():
            found = self._existing(bill)
            invoice = found or self._draft(bill)
            if invoice.status == "draft":
                there = self._lines_of(invoice.id) if found else set()
                for line in _shown(bill):
                    if line.key not in there:
                        self._add(invoice.id, bill, line)
                invoice = self._client.v1.invoices.retrieve(invoice.id)
                if invoice.total != _cents(bill.total):
                    raise NotTaken(
                        f"Stripe adds {bill.number} up to {invoice.total} cents: it stays a draft."
                    )
                invoice = self._client.v1.invoices.finalize_invoice(
                    invoice.id, {"auto_advance": True}, {"idempotency_key": f"finalise-{bill.document}"}
                )
        return _word(bill.document, f"sent-{invoice.id}", invoice)

    def credit(self, credit: Credit) -> Word | None:
        total = _cents(credit.total)
        with _refusals():
            note = self._existing_note(credit)
            if note is None:
                invoice = self._client.v1.invoices.retrieve(credit.corrects)
                if invoice.status == "void":
                    return None
                # What is paid already is kept for the tenant's next invoice; nobody's money is sent anywhere.
                paid = max(total - (invoice.amount_remaining or 0), 0)
                note = self._client.v1.credit_notes.create(
                    _note(credit, paid), {"idempotency_key": f"credit-{credit.document}-{paid}"}
                )
        if note.total != total:
            raise NotTaken(f"Stripe adds {credit.number} up to {note.total} cents.")
        return Word(
            document=credit.document,
            event=f"sent-{note.id}",
            reference=note.id,
            status=PaymentStatus.SENT,
            amount=credit.total,
            at=datetime.now(UTC),
            url=note.pdf or "",
        )

    def _existing_note(self, credit: Credit) -> Any:
        """The credit note that an earlier attempt has made."""
        found = self._client.v1.credit_notes.list({"invoice": credit.corrects, "limit": 100})
        for note in found.auto_paging_iter():
            if _metadata(note).get("document") == str(credit.document) and note.status != "void":
                return note
        return None

    def status(self, document: UUID, reference: str) -> Word:
        with _refusals():
            invoice = self._client.v1.invoices.retrieve(reference)
        return _word(document, f"asked-{invoice.id}-{invoice.status}", invoice)

    def heard(self, body: bytes, headers: Mapping[str, str]) -> Word | None:
        try:
            # Anybody can post anything here, and what is signed is text.
            WebhookSignature.verify_header(body, headers.get("Stripe-Signature"), self._secret, tolerance=300)
            event = json.loads(body)
        except (StripeError, ValueError, TypeError) as error:
            raise Unsigned("The signature is missing, wrong or old.") from error
        kind, said = event["type"], event["data"]["object"]
        if kind == REFUNDED:
            return self._refund(event, said)
        if kind not in SAID:
            return None
        amount = said["amount_paid"] if kind == "invoice.paid" else said["amount_due"]
        return _heard(event, said, SAID[kind], amount)

    def _existing(self, bill: Bill) -> Any:
        """The invoice that an earlier attempt has made, finished or not."""
        query: Any = {"customer": bill.customer, "limit": 100}
        for invoice in self._client.v1.invoices.list(query).auto_paging_iter():
            if _metadata(invoice).get("document") == str(bill.document) and invoice.status != "void":
                return invoice
        return None

    def _lines_of(self, invoice: str) -> set[str | None]:
        """The keys of the lines that a draft has."""
        items = self._client.v1.invoice_items.list({"invoice": invoice, "limit": 100})
        return {_metadata(item).get("line") for item in items.auto_paging_iter()}

    def _draft(self, bill: Bill) -> Any:
        number = {"number": bill.number} if len(bill.number) <= LONGEST_NUMBER else {}
        due = _due(bill.due_on, datetime.now(UTC))
        params: Any = {
            "customer": bill.customer,
            "collection_method": "send_invoice",
            "due_date": due,
            "auto_advance": False,
            "currency": bill.currency.lower(),
            "pending_invoice_items_behavior": "exclude",
            "description": f"Invoice {bill.number}, {bill.month:%B %Y}",
            "metadata": {
                "document": str(bill.document),
                "tenant": str(bill.tenant),
                "number": bill.number,
            },
            **number,
        }
        return self._client.v1.invoices.create(params, {"idempotency_key": f"invoice-{bill.document}-{due}"})

    def _add(self, invoice: str, bill: Bill, line: BillLine) -> None:
        self._client.v1.invoice_items.create(
            {
                "customer": bill.customer,
                "invoice": invoice,
                "amount": _cents(line.amount),
                "currency": bill.currency.lower(),
                "description": line.description,
                "metadata": {"line": line.key},
            },
            {"idempotency_key": f"line-{line.key}"},
        )

    def _refund(self, event: Mapping[str, Any], charge: Mapping[str, Any]) -> Word | None:
        """A charge does not say which invoice it paid: that has to be asked."""
        if not (intent := charge.get("payment_intent")):
            return None
        with _refusals():
            found = self._quick.v1.invoice_payments.list(
                {
                    "payment": {"type": "payment_intent", "payment_intent": intent},
                    "expand": ["data.invoice"],
                }
            )
        if not found.data:
            return None
        invoice = found.data[0].invoice
        assert not isinstance(invoice, str), "it was asked for with the payment"
        paid = {"id": invoice.id, "metadata": _metadata(invoice)}
        refunded = charge["amount_refunded"]
        if charge["refunded"]:
            return _heard(event, paid, PaymentStatus.REFUNDED, refunded)
        left = charge["amount"] - refunded
        return _heard(event, paid, PaymentStatus.PAID, left, f"{_dollars(refunded):.2f} of it was refunded")


def _client(key: str, base: str, patience: float, tries: int) -> StripeClient:
    return StripeClient(
        key,
        base_addresses={"api": base} if base else None,
        http_client=RequestsClient(timeout=patience),
        max_network_retries=tries,
    )


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except StripeError as error:
        code = error.code or type(error).__name__
        raise NotTaken(f"Stripe: {code} (HTTP {error.http_status or '-'})") from error


def _metadata(said: Any) -> dict[str, Any]:
    return said.metadata.to_dict() if said.metadata else {}


def _note(credit: Credit, paid: int) -> Any:
    """A credit note as Stripe takes it. `paid` cents of it were paid by now."""
    return {
        "invoice": credit.corrects,
        "memo": f"Credit note {credit.number}: {credit.reason}",
        "metadata": {"document": str(credit.document), "number": credit.number},
        "lines": [
            {
                "type": "custom_line_item",
                "description": line.description,
                "quantity": 1,
                "unit_amount": _cents(line.amount),
            }
            for line in credit.lines
        ],
        **({"credit_amount": paid} if paid else {}),
    }


def _shown(bill: Bill) -> list[BillLine]:
    """Each line, unless there are too many for Stripe: then those that cost something."""
    if len(bill.lines) <= MOST_LINES:
        return list(bill.lines)
    paid = [line for line in bill.lines if line.amount]
    if len(paid) > MOST_LINES:
        raise NotTaken(f"{bill.number} has {len(paid)} lines; Stripe takes {MOST_LINES}.")
    return paid


def _word(document: UUID, event: str, invoice: Any) -> Word:
    return Word(
        document=document,
        event=event,
        reference=invoice.id,
        status=STATUSES.get(invoice.status or "", PaymentStatus.SENT),
        amount=_dollars(invoice.total),
        at=datetime.now(UTC),
        url=invoice.hosted_invoice_url or "",
    )


def _heard(
    event: Mapping[str, Any], invoice: Mapping[str, Any], status: PaymentStatus, amount: int, detail: str = ""
) -> Word | None:
    try:
        document = UUID(invoice["metadata"]["document"])
    except (KeyError, TypeError, ValueError):
        return None  # an invoice that we did not send
    return Word(
        document=document,
        event=event["id"],
        reference=invoice["id"],
        status=status,
        amount=_dollars(amount),
        at=datetime.fromtimestamp(event["created"], UTC),
        url=invoice.get("hosted_invoice_url") or "",
        detail=detail,
    )


def _due(day: date, now: datetime) -> int:
    """When it is to be paid. Stripe takes no time that is over, and an invoice may have waited for it for long: then
    to the end of tomorrow. The same all day, as everything has to be that is sent under one idempotency key.
    """
    due = _end_of(day)
    return due if due > now.timestamp() + 3600 else _end_of(now.date() + timedelta(1))


def _end_of(day: date) -> int:
    return int(datetime.combine(day, time(23, 59), UTC).timestamp())


def _cents(amount: Decimal) -> int:
    return int(amount * 100)


def _dollars(cents: int) -> Decimal:
    return Decimal(cents) / 100


stripe.enable_telemetry = False
