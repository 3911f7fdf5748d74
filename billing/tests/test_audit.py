"""What is done to prices, plans and invoices is in the audit log."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.utils import timezone

from billing.models import ModelPrice, Plan
from billing.services import credits, invoices, payments, plans, prices
from billing.services.price_list import Rates
from billing.tests import scene
from billing.tests.scene import JUST_AFTER, MONTH, called
from chatplatform import tenancy
from chatplatform.testing.audit import written
from tenants.models.audit import PLATFORM
from tenants.selectors import TenantState
from tenants.vocabulary import AuditAction as Action

MODEL = ("anthropic", "claude-haiku-5-5")


def test_prices_are(db: None) -> None:
    prices.override(*MODEL, [Rates(0, *[Decimal(99)] * 4)], reason="a contract", author="kim")
    prices.back_to_list(*MODEL, reason="it is over", author="kim")
    with tenancy.in_platform():
        ModelPrice.objects.filter(provider="openai").delete()
    prices.update()
    prices.update()
    actions = [one[:2] for one in written(chain=PLATFORM, kinds=["price"])[-3:]]
    named = "/".join(MODEL)
    assert actions == [(Action.PRICE_SET, named), (Action.PRICE_RESET, named), (Action.PRICES_UPDATED, "")]


def test_plans_are(acme: TenantState) -> None:
    with tenancy.in_platform():
        plan = Plan.objects.get(code="pro")
    plans.save(plan)
    today = timezone.now().date()
    plans.subscribe(acme.ref, plan, today)
    assert written("action", "object_id", kinds=["plan"])[-2:] == [
        (Action.PLAN_SAVED, "pro"),
        (Action.PLAN_CHOSEN, "pro"),
    ]
    assert written("data", chain=acme.ref.id, kinds=["plan"])[-1] == ({"starts": str(today)},)


def test_invoices_credit_notes_and_payments_by_hand_are(acme: TenantState, settings: Any) -> None:
    settings.STRIPE_API_KEY = ""
    scene.issuer()
    scene.on_plan(acme.ref)
    scene.account(acme.ref)
    with tenancy.in_tenant(acme.ref):
        called("10")
    invoice = invoices.issue(scene.tenant(acme.ref), MONTH, now=JUST_AFTER).document
    assert invoice
    payments.record_by_hand(invoice, Decimal(3), "Bank transfer", "ann")
    note = credits.credit(acme.ref, invoice.document, "Billed by mistake")
    assert written("action", "object_id", chain=acme.ref.id, kinds=["invoice"])[-3:] == [
        (Action.INVOICE_ISSUED, str(invoice.document)),
        (Action.INVOICE_PAID, str(invoice.document)),
        (Action.INVOICE_CREDITED, str(note.document)),
    ]
