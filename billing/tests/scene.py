"""What tests of invoices need: an issuer, a plan, a month of calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

from billing.models import BillingAccount, Invoice, IssuedDocument, Issuer, LedgerEntry, Plan, Subscription
from billing.vocabulary import CallOutcome, UsageBilling
from chatplatform import tenancy
from chatplatform.postgres.models import uuid7
from chatplatform.tenancy import TenantRef
from tenants.models import Tenant

MONTH = date(2026, 4, 1)  # thirty days
JUST_AFTER = datetime(2026, 5, 1, 2, tzinfo=UTC)


def tenant(ref: TenantRef) -> Tenant:
    """The tenant, as old as the hills."""
    with tenancy.in_platform():
        Tenant.objects.filter(id=ref.id).update(created_at=datetime(2020, 1, 1, tzinfo=UTC))
        return Tenant.objects.get(id=ref.id)


def issuer(**fields: Any) -> Issuer:
    """The default issuer."""
    with tenancy.in_platform():
        Issuer.objects.filter(is_default=True).update(is_default=False)
        return Issuer.objects.create(**{"name": "Operator Ltd", "is_default": True, **fields})


def account(ref: TenantRef, **fields: Any) -> BillingAccount:
    """The tenant's account."""
    with tenancy.in_platform():
        return BillingAccount.objects.update_or_create(tenant_id=ref.id, defaults=fields)[0]


def on_plan(ref: TenantRef, starts: date = date(2020, 1, 1), **fields: Any) -> Plan:
    """Put the tenant on a plan of its own from a day on: no fee, by cost, unless told otherwise."""
    defaults = {"usage_billing": UsageBilling.COST, "name": "Plan", "tier": "custom"}
    with tenancy.in_platform():
        plan = Plan.objects.create(**{**defaults, "code": f"plan-{uuid7().hex}", **fields})
        Subscription.objects.create(tenant_id=ref.id, plan=plan, starts=starts)
    return plan


def called(
    charged: str | Decimal = "0", *, day: date = MONTH, model: str = "gpt-5", **fields: Any
) -> LedgerEntry:
    """A call in the ledger of the current tenant."""
    defaults = {
        "reply": uuid7(),
        "conversation": uuid7(),
        "attempt": 1,
        "sequence": 1,
        "provider": "openai",
        "outcome": CallOutcome.COMPLETED,
        "total_ms": 10,
        "started_at": datetime.combine(day, time(12), UTC),
    }
    return LedgerEntry.objects.create(
        day=day, model=model, charged_usd=Decimal(charged), **{**defaults, **fields}
    )


def invoice(document: IssuedDocument | None) -> Invoice:
    """What was issued, out of its tenant's schema."""
    assert document is not None
    with tenancy.in_platform():
        ref = Tenant.objects.get(id=document.tenant).ref
    with tenancy.in_tenant(ref):
        return Invoice.objects.get(id=document.document)


@contextmanager
def wiped(*refs: TenantRef) -> Iterator[None]:
    """For tests outside a transaction: nothing of billing is left of these tenants, nor of the control plane's part."""
    try:
        yield
    finally:
        for ref in refs:
            _wipe_schema(ref)
        with tenancy.in_platform():
            IssuedDocument.objects.all().delete()
            BillingAccount.objects.all().delete()
            Issuer.objects.all().delete()
            Subscription.objects.all().delete()
            Plan.objects.filter(code__startswith="plan-").delete()


def _wipe_schema(ref: TenantRef) -> None:
    """As the database's superuser: the tables refuse everybody else."""
    from chatplatform.postgres.roles import admin_connection

    kept = ("billing_invoice", "billing_invoiceline", "billing_payment", "billing_ledgerentry")
    with admin_connection() as admin:
        admin.execute("SELECT set_config('search_path', %s, true)", [ref.schema])
        for table in kept:
            admin.execute(f"ALTER TABLE {table} DISABLE TRIGGER append_only".encode())
        admin.execute(f"TRUNCATE billing_hold, {', '.join(kept)}".encode())
        for table in kept:
            admin.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER append_only".encode())
