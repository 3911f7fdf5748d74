"""Credit notes: documents of their own that take back an invoice, or a part of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from billing import payments
from billing.amounts import CENT, NOTHING, Sums, credit_sums
from billing.models import Invoice, InvoiceLine, IssuedDocument, Issuer
from billing.services import numbering
from billing.vocabulary import DocumentKind, LineKind, PaymentStatus
from chatplatform import tenancy
from chatplatform.api.fields import one_line
from chatplatform.api.problem import invalid
from chatplatform.jobs import enqueue_on_commit
from chatplatform.tenancy import TenantRef
from tenants import audit
from tenants.vocabulary import AuditAction


@dataclass(frozen=True, slots=True)
class Left:
    """What has not been credited of an invoice: per line (those with something left), and in all."""

    lines: Mapping[InvoiceLine, Decimal]
    sums: Sums


def credit(
    tenant: TenantRef,
    invoice_id: UUID,
    reason: str,
    amounts: Mapping[UUID, Decimal] | None = None,
    *,
    author: str = "",
    document_id: UUID | None = None,
) -> IssuedDocument:
    """Issue a credit note over `amounts` (positive, before tax, by line's id), or over all that is left.

    A `document_id` of the caller's makes it safe to repeat: the second call finds what the first one did. Raises
    Problem, and IssuedDocument.DoesNotExist.
    """
    reason = one_line("reason", reason.strip())
    if not 0 < len(reason) <= 300:
        raise invalid("reason", "Say why, in at most 300 characters.")
    with transaction.atomic():
        with tenancy.in_platform():
            original = IssuedDocument.objects.get(
                document=invoice_id, tenant=tenant.id, kind=DocumentKind.INVOICE
            )
            # Whoever else credits this invoice waits here, so what is left is what is left.
            issuer = numbering.locked(original.issuer_id)
            if document_id and (found := IssuedDocument.objects.filter(document=document_id).first()):
                return found
        with tenancy.in_tenant(tenant):
            invoice = Invoice.objects.get(id=invoice_id)
            left = left_of(invoice)
            given = _given(left, amounts)
            note = _note(invoice, reason, credit_sums(given.values(), invoice.tax_percent, left.sums))
            note.id = document_id or note.id
        with tenancy.in_platform():
            follows = payments.provider().takes_invoices and bool(original.payment_status)
            document = _registered(issuer, tenant, note, author, PaymentStatus.WAITING if follows else "")
        with tenancy.in_tenant(tenant):
            numbering.check_free(note.number)
            note.save(force_insert=True)
            InvoiceLine.objects.bulk_create(_lines(note, given))
        audit.record(
            AuditAction.INVOICE_CREDITED,
            note.id,
            tenant=tenant.id,
            number=note.number,
            corrects=invoice.number,
            total=str(note.total),
        )
        if follows:  # where its invoice went, or goes
            enqueue_on_commit("billing.hand_over", str(document.document))
    return document


def left_of(invoice: Invoice) -> Left:
    """What has not been credited yet. To be called inside the invoice's tenant."""
    notes = list(Invoice.objects.filter(corrects=invoice))
    credited: dict[UUID | None, Decimal] = {}
    for line_id, amount in InvoiceLine.objects.filter(invoice__in=notes).values_list("corrects", "amount"):
        credited[line_id] = credited.get(line_id, NOTHING) + amount  # the amount is negative
    lines = {line: line.amount + credited.get(line.id, NOTHING) for line in invoice.lines.all()}
    subtotal = invoice.subtotal + sum((note.subtotal for note in notes), NOTHING)
    tax = invoice.tax + sum((note.tax for note in notes), NOTHING)
    return Left({line: amount for line, amount in lines.items() if amount > 0}, Sums(subtotal, tax))


def _given(left: Left, amounts: Mapping[UUID, Decimal] | None) -> dict[InvoiceLine, Decimal]:
    """The amount for each line that is credited. Raises Problem."""
    given = dict(left.lines)
    if amounts is not None:
        by_id = {line.id: (line, amount) for line, amount in left.lines.items()}
        given = {}
        for line_id, amount in amounts.items():
            line, most = by_id.get(line_id, (None, NOTHING))
            if line is None:
                raise invalid("lines", "There is nothing left to credit of one of these lines.")
            if not 0 < amount <= most or amount != amount.quantize(CENT):
                raise invalid("lines", f"Line {line.position}: from 0.01 to {most}, in whole cents.")
            given[line] = amount
    if not given:
        raise invalid("lines", "There is nothing to credit.")
    return given


def _note(invoice: Invoice, reason: str, sums: Sums) -> Invoice:
    """The credit note, which has no number yet."""
    now = timezone.now()
    return Invoice(
        kind=DocumentKind.CREDIT_NOTE,
        month=invoice.month,
        corrects=invoice,
        reason=reason,
        issuer=invoice.issuer,
        recipient=invoice.recipient,
        plan=invoice.plan,
        currency=invoice.currency,
        subtotal=-sums.subtotal,
        tax_percent=invoice.tax_percent,
        tax=-sums.tax,
        total=-sums.total,
        issued_at=now,
        due_on=now.date(),
    )


def _registered(
    issuer: Issuer, tenant: TenantRef, note: Invoice, author: str, payment_status: str
) -> IssuedDocument:
    document = numbering.register(
        issuer,
        tenant=tenant.id,
        tenant_slug=tenant.slug,
        document=note.id,
        kind=note.kind,
        month=note.month,
        total=note.total,
        issued_at=note.issued_at,
        author=author,
        payment_status=payment_status,
    )
    note.number = document.name
    return document


def _lines(note: Invoice, given: Mapping[InvoiceLine, Decimal]) -> list[InvoiceLine]:
    return [
        InvoiceLine(
            invoice=note,
            corrects=line,
            position=position,
            starts=line.starts,
            ends=line.ends,
            kind=LineKind.CREDIT,
            description=line.description,
            provider=line.provider,
            model=line.model,
            exact=-amount,
            amount=-amount,
        )
        for position, (line, amount) in enumerate(given.items(), 1)
    ]
