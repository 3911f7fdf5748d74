"""How `check_isolation` walks invoices, plans and spending."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.utils import timezone

from billing import months
from billing.models import BillingAccount, Invoice, InvoiceLine, IssuedDocument, Issuer, LedgerEntry, Plan
from billing.services import numbering, plans
from billing.vocabulary import CallOutcome, DocumentKind, LineKind, UsageBilling
from chatplatform.isolation import Call, Elsewhere, Job, Planted, Walks, Who
from chatplatform.postgres.models import uuid7
from chatplatform.tenancy import in_platform, in_tenant
from tenants.vocabulary import Feature

KEY, MEMBER, STAFF = Who.KEY, Who.MEMBER, Who.STAFF
NUMBERS = "ISOLATION-{number:06d}"
ISSUER = "check_isolation"  # an issuer of its own, so that no number of a real one is used up


def plant(tenant: Planted) -> None:
    """An account, a call in the ledger, and an invoice of last month with a line."""
    today = timezone.now().date()
    last = months.before(today)
    with in_platform(), transaction.atomic():
        issuer, _ = Issuer.objects.get_or_create(name=ISSUER, defaults={"number_format": NUMBERS})
        BillingAccount.objects.update_or_create(
            tenant_id=tenant.ref.id, defaults={"legal_name": f"{tenant.canary} Ltd", "issuer": issuer}
        )
        document = _registered(tenant, numbering.locked(issuer.pk), last)
        plan = Plan.objects.create(
            code=f"isolation-{tenant.canary}", name=ISSUER, tier="custom", usage_billing=UsageBilling.COST,
            features=list(Feature),
        )  # fmt: skip
    plans.subscribe(tenant.ref, plan, today, author=ISSUER)  # all that is walked is to be included
    with in_tenant(tenant.ref):
        for day in (last, today):
            _called(tenant, day)
        line = _invoiced(tenant, document, last)
    tenant.ids |= {
        "document_id": str(document.pk),
        "invoice_id": str(document.document),
        "line_id": str(line.pk),
        "issuer_of_invoices": str(issuer.pk),
        "plan": str(plan.pk),
    }


def forget(tenant: Planted) -> None:
    """Remove what the erasure of a tenant leaves: the numbers, and the issuer that gave them out."""
    with in_platform(), transaction.atomic():
        Plan.objects.filter(code=f"isolation-{tenant.canary}").delete()
        IssuedDocument.objects.filter(tenant=tenant.ref.id, issuer__name=ISSUER).delete()
        Issuer.objects.filter(name=ISSUER, documents=None, billingaccount=None).delete()


def _registered(tenant: Planted, issuer: Issuer, month: date) -> IssuedDocument:
    return numbering.register(
        issuer, tenant=tenant.ref.id, tenant_slug=tenant.ref.slug, document=uuid7(), kind=DocumentKind.INVOICE,
        month=month, total=Decimal("1.00"), issued_at=timezone.now(), author=ISSUER,
    )  # fmt: skip


def _called(tenant: Planted, day: date) -> None:
    LedgerEntry.objects.create(
        reply=uuid7(), conversation=uuid7(), attempt=1, sequence=1, day=day, provider="local",
        model=f"model-{tenant.canary}", outcome=CallOutcome.COMPLETED, total_ms=1, charged_usd=Decimal(1),
        started_at=timezone.now(),
    )  # fmt: skip


def _invoiced(tenant: Planted, document: IssuedDocument, month: date) -> InvoiceLine:
    one = Decimal("1.00")
    who: dict[str, Any] = {"name": f"{tenant.canary} Ltd", "address": "", "email": "", "tax_number": ""}
    invoice = Invoice.objects.create(
        id=document.document, number=document.name, month=month, issuer={**who, "name": ISSUER}, recipient=who,
        plan={"terms": []}, subtotal=one, tax=Decimal(0), total=one, issued_at=document.issued_at, due_on=month,
    )  # fmt: skip
    return InvoiceLine.objects.create(
        invoice=invoice, position=1, starts=month, ends=months.last_day(month), kind=LineKind.USAGE,
        description=tenant.canary, provider="local", model=f"model-{tenant.canary}", calls=1, exact=one, amount=one,
    )  # fmt: skip


INVOICE = "console/invoices/<uuid:invoice_id>"
DOCUMENT = "admin/billing/issueddocument/<uuid:document_id>"
TENANT = "admin/tenants/tenant/<uuid:tenant_id>/billing"
PRICE = "admin/billing/modelprice/<uuid:price_id>"
SEEN = (Call(MEMBER, shows=True),)
BY_STAFF = (Call(STAFF, shows=True),)

WALKS = Walks(
    plant,
    api={
        "usage/daily": (Call(KEY, shows=True),),
        "invoices": (Call(KEY),),
        "invoices/<uuid:invoice_id>": (Call(KEY, shows=True),),
    },
    pages={
        "console/": (Call(MEMBER),),
        "console/usage": (Call(MEMBER, shows=True),),
        "console/invoices": (Call(MEMBER),),
        INVOICE: SEEN,
        f"{INVOICE}.csv": SEEN,
        f"{INVOICE}.json": SEEN,
        f"{INVOICE}/calls/<uuid:line_id>.csv": SEEN,
    },
    staff={
        "admin/spending/<slug:slug>/": (Call(STAFF, shows=True),),
        "admin/spending/<slug:slug>/ledger/": (Call(STAFF, shows=True),),
        "admin/spending/<slug:slug>/ledger.csv": (Call(STAFF, shows=True),),
        f"{TENANT}/": (Call(STAFF),),
        f"{TENANT}/plan/": (Call(STAFF),),
        f"{TENANT}/account/": BY_STAFF,
        "admin/billing/issueddocument/issue/": (Call(STAFF, everybody=True),),
        "admin/billing/issueddocument/go-issue/": (Call(STAFF, status=302),),
        f"{DOCUMENT}/change/": BY_STAFF,
        f"{DOCUMENT}/page/": BY_STAFF,
        f"{DOCUMENT}/file.csv": BY_STAFF,
        f"{DOCUMENT}/file.json": BY_STAFF,
        f"{DOCUMENT}/calls/<uuid:line_id>.csv": BY_STAFF,
        f"{DOCUMENT}/credit/": (Call(STAFF),),
        f"{DOCUMENT}/send/": (Call(STAFF, "POST", 302, {}),),
        f"{DOCUMENT}/paid/": (Call(STAFF),),
        f"{PRICE}/override/": (Call(STAFF, ids={"price_id": "price"}),),
        f"{PRICE}/back/": (Call(STAFF, ids={"price_id": "price"}),),
        "webhooks/stripe": (Call(Who.NOBODY, "POST", 400, {}, open=True),),
    },
    tasks={
        "billing.hand_over": Job(("invoice_id",)),
        "billing.hand_over_waiting": Job(),
        "billing.ask_about_payments": Job(),
        "billing.follow_plans": Job(),
        "billing.mail_threshold": Elsewhere(
            "Its arguments are what it mails: it reads nothing but its tenant's name."
        ),
        "billing.tell_refusal": Elsewhere("As mail_threshold: what it tells, it is sent."),
    },
    commands={
        "issue_invoices": Elsewhere(
            "It would issue real invoices; by hand it is the staff page that is walked."
        ),
        "reconcile_usage": Elsewhere(
            "It compares the sums of all tenants, for operators, with a provider's file."
        ),
        "update_prices": Elsewhere("It changes the platform's own prices and knows no tenant."),
    },
    forget=forget,
)
