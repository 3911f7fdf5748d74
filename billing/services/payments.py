"""Handing invoices to the payment provider, and writing down what it says of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import structlog
from django.core.cache import cache
from django.db import transaction
from django.utils import timezone

from billing import payments
from billing.models import BillingAccount, Invoice, IssuedDocument, Payment
from billing.payments import Bill, BillLine, Credit, NotTaken, Word
from billing.services import credits
from billing.vocabulary import DocumentKind, PaymentStatus
from chatplatform import tenancy
from chatplatform.api.problem import invalid
from chatplatform.jobs import enqueue
from chatplatform.postgres.models import uuid7
from tenants import audit
from tenants.models import Tenant
from tenants.vocabulary import AuditAction

log = structlog.get_logger("billing.payments")
FORGOTTEN_AFTER = timedelta(minutes=10)
OPEN = (PaymentStatus.SENT, PaymentStatus.FAILED)
ENDED = (PaymentStatus.PAID, PaymentStatus.VOIDED)
ASKED_AT_ONCE = 1_000
LAST_ASKED = "billing:last_asked_about"


def hand_over(document_id: UUID) -> None:
    """Send what was issued to the payment provider, unless that is done: an invoice if not all of it was credited
    meanwhile, a credit note if its invoice is there.

    Raises NotTaken: try again later.
    """
    provider = payments.provider()
    with tenancy.in_platform():
        document = IssuedDocument.objects.filter(
            document=document_id, payment_status=PaymentStatus.WAITING
        ).first()
        tenant = Tenant.objects.filter(id=document.tenant).first() if document else None
    if document is None or tenant is None or not provider.takes_invoices:
        return
    word = (
        _credited(document, tenant)
        if document.kind == DocumentKind.CREDIT_NOTE
        else _billed(document, tenant)
    )
    if word is not None:
        record(document, word)
        return
    with tenancy.in_platform():
        IssuedDocument.objects.filter(id=document.id).update(payment_status="")


def _billed(document: IssuedDocument, tenant: Tenant) -> Word | None:
    """What the provider says of an invoice that is sent now; None if there is nothing to pay any more."""
    if _is_taken_back(document, tenant):
        return None
    provider, bill = payments.provider(), _bill(document, tenant)
    customer = provider.customer(bill)
    if customer != bill.customer:
        bill = _with_customer(bill, tenant, customer)
    return provider.send(bill)


def _credited(document: IssuedDocument, tenant: Tenant) -> Word | None:
    """What the provider says of a credit note that is sent now; None if its invoice is not there."""
    provider = payments.provider()
    with tenancy.in_tenant(tenant.ref):
        note = Invoice.objects.select_related("corrects").get(id=document.document)
        assert note.corrects, "a credit note corrects an invoice"
        handed = Payment.objects.filter(invoice=note.corrects, provider=provider.name).first()
        lines = [replace(line, amount=-line.amount) for line in _bill_lines(note)]
    with tenancy.in_platform():
        original = IssuedDocument.objects.get(document=note.corrects.id)
    if original.payment_status == PaymentStatus.WAITING:
        raise NotTaken(f"{document}: its invoice has to be handed over first.")
    if handed is None:
        return None
    return provider.credit(
        Credit(note.id, note.number, handed.reference, note.reason, lines, total=-note.total)
    )


def hand_over_waiting() -> int:
    """Enqueue what was forgotten: jobs can be lost, and the provider can be away for long. How many they were."""
    oldest = timezone.now() - FORGOTTEN_AFTER
    with tenancy.in_platform():
        waiting = IssuedDocument.objects.filter(
            payment_status=PaymentStatus.WAITING, issued_at__lt=oldest
        ).order_by("issued_at")
        forgotten = list(waiting.values_list("document", flat=True)[:500])
    for document in forgotten:
        enqueue("billing.hand_over", str(document))
    return len(forgotten)


def ask_about_open() -> int:
    """Ask the provider about invoices that wait for money, in case a word of its was lost. How many had ended."""
    if not payments.provider().takes_invoices:
        return 0
    ended = 0
    for document in _next_to_ask():
        try:
            ended += _ask(document)
        except NotTaken as error:  # one invoice's trouble is not the others'
            log.warning("payment_not_asked", document=document.name, error=str(error))
    return ended


def _next_to_ask() -> list[IssuedDocument]:
    """So many of the open ones, from where the last time stopped: there may be more of them than are asked at once."""
    with tenancy.in_platform():
        waiting = IssuedDocument.objects.filter(kind=DocumentKind.INVOICE, payment_status__in=OPEN).order_by(
            "id"
        )
        last = cache.get(LAST_ASKED)
        documents = list(waiting.filter(id__gt=last)[:ASKED_AT_ONCE]) if last else []
        if room := ASKED_AT_ONCE - len(documents):
            documents += waiting.filter(id__lte=last)[:room] if last else waiting[:room]
        if documents:
            cache.set(LAST_ASKED, documents[-1].id, None)
    return documents


def _ask(document: IssuedDocument) -> bool:
    provider = payments.provider()
    with tenancy.in_platform():
        tenant = Tenant.objects.filter(id=document.tenant).first()
    if tenant is None:
        return False
    with tenancy.in_tenant(tenant.ref):
        handed = Payment.objects.filter(invoice_id=document.document, provider=provider.name).first()
    word = provider.status(document.document, handed.reference) if handed else None
    # That it is open is no news, and less than that a payment failed.
    return word is not None and word.status in ENDED and record(document, word)


def send_again(document: IssuedDocument) -> None:
    """Have an invoice handed over that is waiting, or that was issued without a payment provider. Raises Problem."""
    if not payments.provider().takes_invoices:
        raise invalid("provider", "There is no payment provider.")
    again = IssuedDocument.objects.filter(id=document.id, kind=DocumentKind.INVOICE, total__gt=0)
    again = again.filter(payment_status__in=("", PaymentStatus.WAITING))
    if not again.update(payment_status=PaymentStatus.WAITING):
        raise invalid("document", f"{document} is with the payment provider already, or has nothing to pay.")
    enqueue("billing.hand_over", str(document.document))


def hear(body: bytes, headers: Mapping[str, str]) -> bool:
    """Take what a webhook says; whether it was new. Raises Unsigned, NotTaken."""
    provider = payments.provider()
    word = provider.heard(body, headers)
    if word is None:
        return False
    with tenancy.in_platform():
        document = IssuedDocument.objects.filter(document=word.document).first()
    if document is None:
        log.warning("payment_for_unknown_document", document=str(word.document), provider=provider.name)
        return False
    return record(document, word)


def record_by_hand(document: IssuedDocument, amount: Decimal, detail: str, author: str) -> None:
    """Write down that an invoice was paid by other means. Raises Problem."""
    if document.kind != DocumentKind.INVOICE or amount <= 0:
        raise invalid("amount", "An amount that was paid for an invoice, above zero.")
    word = Word(
        document=document.document,
        event=f"staff-{uuid7()}",
        reference=author,
        status=PaymentStatus.PAID,
        amount=amount,
        at=timezone.now(),
        detail=detail,
    )
    with transaction.atomic():
        record(document, word, by="staff")
        audit.record(
            AuditAction.INVOICE_PAID,
            document.document,
            tenant=document.tenant,
            number=document.name,
            amount=str(amount),
        )


def record(document: IssuedDocument, word: Word, by: str = "") -> bool:
    """Write down a provider's word, once; whether it was new. The newest one is the document's status."""
    with tenancy.in_platform():
        tenant = Tenant.objects.filter(id=document.tenant).first()
    if tenant is None:
        return False  # erased meanwhile
    with transaction.atomic():
        with tenancy.in_platform():
            # Two words at once: the newer one is to win, so they come one after the other.
            IssuedDocument.objects.select_for_update().get(id=document.id)
        with tenancy.in_tenant(tenant.ref):
            if Payment.objects.filter(event=word.event).exists():
                return False
            Payment.objects.create(
                invoice_id=word.document,
                provider=by or payments.provider().name,
                reference=word.reference,
                event=word.event,
                status=word.status,
                amount=word.amount,
                url=word.url,
                detail=word.detail,
                at=word.at,
            )
            newest = Payment.objects.filter(invoice_id=word.document).order_by("-at", "-id")[0]
        with tenancy.in_platform():
            IssuedDocument.objects.filter(id=document.id).update(payment_status=newest.status)
    log.info("payment", document=document.name, tenant=document.tenant_slug, status=str(word.status))
    return True


def _is_taken_back(document: IssuedDocument, tenant: Tenant) -> bool:
    with tenancy.in_tenant(tenant.ref):
        return not credits.left_of(Invoice.objects.get(id=document.document)).sums.total


def _bill(document: IssuedDocument, tenant: Tenant) -> Bill:
    with tenancy.in_platform():
        account = BillingAccount.objects.filter(tenant=tenant).first()
    with tenancy.in_tenant(tenant.ref):
        invoice = Invoice.objects.get(id=document.document)
        lines = list(_bill_lines(invoice))
    return Bill(
        document=invoice.id,
        number=invoice.number,
        tenant=tenant.id,
        name=invoice.recipient["name"],
        email=invoice.recipient["email"],
        customer=account.payment_customer if account else "",
        currency=invoice.currency,
        month=invoice.month,
        due_on=invoice.due_on,
        lines=lines,
        total=invoice.total,
    )


def _bill_lines(invoice: Invoice) -> Iterator[BillLine]:
    for line in invoice.lines.all():
        yield BillLine(str(line.id), line.description, line.amount)
    if invoice.tax:
        yield BillLine(f"{invoice.id}-tax", f"Tax, {invoice.tax_percent.normalize():f} %", invoice.tax)


def _with_customer(bill: Bill, tenant: Tenant, customer: str) -> Bill:
    """Keep the tenant's id at the provider for the next invoice; who was quicker wins."""
    with tenancy.in_platform():
        account, _ = BillingAccount.objects.get_or_create(tenant=tenant)
        BillingAccount.objects.filter(id=account.id, payment_customer="").update(payment_customer=customer)
        account.refresh_from_db()
    return replace(bill, customer=account.payment_customer)
