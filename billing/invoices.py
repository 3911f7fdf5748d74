"""Reading invoices and credit notes: for pages, the API and downloads. Inside the tenant, or staff's view of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet

from billing.amounts import NOTHING
from billing.models import Invoice, InvoiceLine, LedgerEntry, Payment
from billing.vocabulary import DocumentKind, LineKind, PaymentStatus
from chatplatform import csv_table
from chatplatform.jobs import in_thread
from chatplatform.tenancy import Scope

LINE = ("position", "kind", "description", "provider", "model", "starts", "ends", "calls", "tokens")
MONEY = ("unit_price", "exact", "amount")
CALL = (
    "day",
    "started_at",
    "reply",
    "conversation",
    "attempt",
    "sequence",
    "kind",
    "outcome",
    "provider",
    "model",
    "input_tokens",
    "cached_input_tokens",
    "cache_write_input_tokens",
    "output_tokens",
    "estimated",
    "charged_usd",
)
TERMS = ("code", "name", "starts", "ends", "monthly_fee", "usage_billing", "included_tokens", "overage_price")
# What a tenant is not told: what the call cost us, and so what we add.
OURS = (
    "input_price",
    "cached_input_price",
    "cache_write_price",
    "output_price",
    "markup_percent",
    "cost_usd",
)
CHUNK = 5_000
WITH_CALLS = (LineKind.USAGE, LineKind.OVERAGE)
Inside = Callable[[], AbstractContextManager[Scope]]


@dataclass(frozen=True, slots=True)
class Document:
    """An invoice or a credit note with all that belongs to it."""

    invoice: Invoice
    lines: Sequence[InvoiceLine]
    payments: Sequence[Payment]
    credit_notes: Sequence[Invoice]

    @property
    def is_invoice(self) -> bool:
        return self.invoice.kind == DocumentKind.INVOICE

    @property
    def credited(self) -> Decimal:
        """What credit notes have taken back, tax included; positive."""
        return -sum((note.total for note in self.credit_notes), NOTHING)

    @property
    def payment(self) -> Payment | None:
        """The newest word about its payment."""
        return self.payments[-1] if self.payments else None

    @property
    def is_open(self) -> bool:
        """Whether it waits for money, as far as the payment provider has said."""
        open_ones = (PaymentStatus.SENT, PaymentStatus.FAILED)
        return self.is_invoice and self.payment is not None and self.payment.status in open_ones


def of_tenant() -> QuerySet[Invoice]:
    """The tenant's invoices and credit notes, newest first."""
    return Invoice.objects.select_related("corrects").order_by("-issued_at", "-id")


def document(document_id: UUID) -> Document:
    """One of them with all that belongs to it. Raises Invoice.DoesNotExist."""
    invoice = Invoice.objects.select_related("corrects").get(id=document_id)
    return Document(
        invoice,
        list(invoice.lines.all()),
        list(invoice.payments.order_by("at", "id")),
        list(invoice.credit_notes.order_by("issued_at", "id")),
    )


def page(
    shown: Document, csv_url: str, json_url: str, calls_url: Callable[[InvoiceLine], str] | None = None
) -> dict[str, Any]:
    """What the templates in `templates/billing/` need; `calls_url` is where the calls behind a line are."""
    return {
        "document": shown,
        "rows": [
            (line, calls_url(line) if calls_url and line.kind in WITH_CALLS else "") for line in shown.lines
        ],
        "csv_url": csv_url,
        "json_url": json_url,
    }


def entries(line: InvoiceLine) -> QuerySet[LedgerEntry]:
    """The calls behind a line: for the usage of a model its own, for overage those of all models, for a fee none.

    The amount of a line that is charged by cost is the sum of their `charged_usd`; tokens add up in the same way.
    """
    line = line.corrects or line
    if line.kind == LineKind.FEE:
        return LedgerEntry.objects.none()
    found = LedgerEntry.objects.filter(day__range=(line.starts, line.ends)).order_by("day", "id")
    return found.filter(provider=line.provider, model=line.model) if line.kind == LineKind.USAGE else found


def as_json(shown: Document) -> dict[str, Any]:
    """The document for programs. Amounts are decimal strings."""
    invoice = shown.invoice
    return {
        "id": str(invoice.id),
        "kind": invoice.kind,
        "number": invoice.number,
        "month": f"{invoice.month:%Y-%m}",
        "issued_at": invoice.issued_at,
        "due_on": invoice.due_on,
        "corrects": invoice.corrects.number if invoice.corrects else None,
        "reason": invoice.reason,
        "issuer": invoice.issuer,
        "recipient": invoice.recipient,
        "plans": [{name: terms[name] for name in TERMS} for terms in invoice.plan["terms"]],
        "currency": invoice.currency,
        "lines": [
            {"id": str(line.id)}
            | {name: getattr(line, name) for name in LINE}
            | {name: _plain(getattr(line, name)) for name in MONEY}
            for line in shown.lines
        ],
        "subtotal": _plain(invoice.subtotal),
        "tax_percent": _plain(invoice.tax_percent),
        "tax": _plain(invoice.tax),
        "total": _plain(invoice.total),
        "credited": _plain(shown.credited),
        "credit_notes": [note.number for note in shown.credit_notes],
        "payment": shown.payment.status if shown.payment else None,
        "pay_at": shown.payment.url if shown.payment else "",
    }


def as_csv(shown: Document) -> str:
    """The document as a table: a row for each line, then subtotal, tax and total."""
    invoice = shown.invoice
    rows = [
        [*(getattr(line, name) for name in LINE), *(getattr(line, name) for name in MONEY)]
        for line in shown.lines
    ]
    for name in ("subtotal", "tax", "total"):
        amount = getattr(invoice, name)
        rows.append(["", name, "", "", "", "", "", "", "", "", amount, amount])
    head = [invoice.number, f"{invoice.month:%Y-%m}", invoice.currency]
    table = [["number", "month", "currency", *LINE, *MONEY], *([*head, *row] for row in rows)]
    return csv_table.text(table)


async def entries_csv(line: InvoiceLine, inside: Inside, *, ours: bool = False) -> AsyncIterator[bytes]:
    """The calls behind a line as a table, in pieces; with what they cost us if it is for staff.

    `inside` makes the context to read them in, such as `partial(tenancy.in_tenant, ref)`: the pieces are read after the
    view has answered.
    """
    columns = CALL + OURS if ours else CALL
    yield csv_table.text([["id", *columns]]).encode()
    last: tuple[Any, ...] | None = None
    while rows := await in_thread(_chunk, line, inside, ("id", *columns), last):
        yield csv_table.text(rows).encode()
        last = rows[-1]


def _chunk(
    line: InvoiceLine, inside: Inside, columns: Sequence[str], last: tuple[Any, ...] | None
) -> list[Any]:
    with inside():
        found = entries(line)
        if last is not None:
            row_id, day = last[0], last[1]
            found = found.filter(Q(day__gt=day) | Q(day=day, id__gt=row_id))
        return list(found.values_list(*columns)[:CHUNK])


def _plain(value: Decimal | None) -> str | None:
    return None if value is None else f"{value:f}"
