"""Issuing a month's invoices. Once issued they never change: what was wrong is credited (see `credits`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Sum
from django.utils import timezone

from billing import months, payments
from billing.amounts import Line, Span
from billing.models import (
    CALLED,
    BillingAccount,
    Hold,
    Invoice,
    InvoiceLine,
    IssuedDocument,
    Issuer,
    LedgerEntry,
)
from billing.services import numbering
from billing.services.drafts import Draft, draft
from billing.vocabulary import DocumentKind, LineKind, PaymentStatus
from chatplatform import tenancy
from chatplatform.api.problem import invalid
from chatplatform.jobs import enqueue_on_commit
from chatplatform.postgres.models import uuid7
from chatplatform.tenancy import TenantRef
from tenants import audit
from tenants.models import Tenant
from tenants.vocabulary import AuditAction, TenantStatus

BILLED = (TenantStatus.ACTIVE, TenantStatus.SUSPENDED)
# A reply that was accepted in the month's last minute may be generated and settled well after midnight.
SETTLING = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Issued:
    """What came of issuing: a new document, the one that was there, or none.

    `late` are calls of the month that came into the ledger after the invoice was issued.
    """

    document: IssuedDocument | None
    is_new: bool = False
    late: int = 0


def billed_tenants(month: date, slugs: Sequence[str] = ()) -> list[Tenant]:
    """The tenants that there were in a month, suspended ones too: all, or those named. Raises DoesNotExist."""
    with tenancy.in_platform():
        if slugs:
            return [Tenant.objects.get(slug=slug, status__in=BILLED) for slug in dict.fromkeys(slugs)]
        return list(Tenant.objects.filter(status__in=BILLED, created_at__lt=_midnight(months.after(month))))


def check_over(month: date, now: datetime | None = None) -> None:
    """Raises Problem unless the month is over and its last replies have had their time."""
    issuable = _midnight(months.after(month)) + SETTLING
    if (now or timezone.now()) < issuable:
        raise invalid("month", f"{month:%Y-%m} can be invoiced from {issuable:%Y-%m-%d %H:%M} UTC on.")


def issue(tenant: Tenant, month: date, author: str = "", now: datetime | None = None) -> Issued:
    """Issue the tenant's invoice of a month, or find the one that was issued. Raises Problem.

    The number, its row in the control plane and the invoice are one transaction: all of it happened or nothing.
    """
    now = now or timezone.now()
    check_over(month, now)
    if found := _existing(tenant, month):
        return Issued(found, late=_late(tenant, found))
    _check_settled(tenant.ref, month)
    prepared = draft(tenant, month)
    if prepared is None:
        return Issued(None)
    try:
        return _write(prepared, author, now)
    except IntegrityError:
        # Another run was quicker, under another issuer's lock. If it is anything else, it is not to be hidden.
        if found := _existing(tenant, month):
            return Issued(found)
        raise


def _write(prepared: Draft, author: str, now: datetime) -> Issued:
    tenant, month, total = prepared.tenant, prepared.month, prepared.sums.total
    waits = payments.provider().takes_invoices and total > 0
    with transaction.atomic():
        with tenancy.in_platform():
            issuer = numbering.locked(prepared.issuer.id)
            if found := _existing(tenant, month):  # another run was quicker
                return Issued(found)
            document = numbering.register(
                issuer,
                tenant=tenant.id,
                tenant_slug=tenant.slug,
                document=uuid7(),
                kind=DocumentKind.INVOICE,
                month=month,
                total=total,
                issued_at=now,
                author=author,
                payment_status=PaymentStatus.WAITING if waits else "",
            )
        with tenancy.in_tenant(tenant.ref):
            numbering.check_free(document.name)
            invoice = _invoice(prepared, issuer, document)
            invoice.save(force_insert=True)
            InvoiceLine.objects.bulk_create(_lines(invoice, prepared.lines))
        audit.record(
            AuditAction.INVOICE_ISSUED,
            document.document,
            tenant=tenant.id,
            number=document.name,
            total=str(total),
        )
        if waits:
            enqueue_on_commit("billing.hand_over", str(document.document))
    return Issued(document, is_new=True)


def _invoice(prepared: Draft, issuer: Issuer, document: IssuedDocument) -> Invoice:
    sums = prepared.sums
    return Invoice(
        id=document.document,
        number=document.name,
        month=document.month,
        issuer=issuer_as_issued(issuer),
        recipient=recipient_as_issued(prepared.account, prepared.tenant),
        plan={"terms": [_terms(span) for span in prepared.spans]},
        subtotal=sums.subtotal,
        tax_percent=prepared.account.tax_percent,
        tax=sums.tax,
        total=sums.total,
        issued_at=document.issued_at,
        due_on=document.issued_at.date() + timedelta(days=issuer.days_to_pay),
    )


def _lines(invoice: Invoice, lines: Iterable[Line]) -> list[InvoiceLine]:
    return [
        InvoiceLine(
            invoice=invoice,
            position=position,
            starts=line.span.starts,
            ends=line.span.ends,
            kind=line.kind,
            description=line.description,
            provider=line.provider,
            model=line.model,
            calls=line.calls,
            tokens=line.tokens,
            unit_price=line.unit_price,
            exact=line.exact,
            amount=line.amount,
        )
        for position, line in enumerate(lines, 1)
    ]


def issuer_as_issued(issuer: Issuer) -> dict[str, str]:
    """The issuer as the document keeps it."""
    names = ("name", "address", "tax_number", "payment_note")
    return {name: getattr(issuer, name) for name in names}


def recipient_as_issued(account: BillingAccount, tenant: Tenant) -> dict[str, str]:
    """The recipient as the document keeps it; a tenant without a legal name has its own."""
    return {
        "name": account.legal_name or tenant.name,
        "address": account.address,
        "email": account.email,
        "tax_number": account.tax_number,
        "tenant": tenant.slug,
    }


def _terms(span: Span) -> Mapping[str, Any]:
    plan = span.plan
    return {
        "code": plan.code,
        "name": plan.name,
        "starts": span.starts.isoformat(),
        "ends": span.ends.isoformat(),
        "monthly_fee": str(plan.monthly_fee),
        "usage_billing": plan.usage_billing,
        "included_tokens": span.included_tokens,
        "overage_price": None if plan.overage_price is None else str(plan.overage_price),
        "markup_percent": str(plan.markup_percent),
    }


def _existing(tenant: Tenant, month: date) -> IssuedDocument | None:
    with tenancy.in_platform():
        return IssuedDocument.objects.filter(tenant=tenant.id, month=month, kind=DocumentKind.INVOICE).first()


def _check_settled(tenant: TenantRef, month: date) -> None:
    """A hold of the month is a call that the ledger does not know yet. Asked before the ledger is read."""
    with tenancy.in_tenant(tenant):
        held = Hold.objects.filter(day__range=(month, months.last_day(month))).count()
    if held:
        raise invalid("month", f"{held} replies of {month:%Y-%m} are not settled yet: try again later.")


def _late(tenant: Tenant, document: IssuedDocument) -> int:
    with tenancy.in_tenant(tenant.ref):
        usage = InvoiceLine.objects.filter(invoice_id=document.document, kind=LineKind.USAGE)
        billed: int = usage.aggregate(calls=Sum("calls", default=0))["calls"]
        days = (document.month, months.last_day(document.month))
        return LedgerEntry.objects.filter(CALLED, day__range=days).count() - billed


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
