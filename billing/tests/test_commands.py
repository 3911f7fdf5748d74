"""`manage.py issue_invoices`, as an operator runs it."""

from __future__ import annotations

import io
from decimal import Decimal

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from billing import months
from billing.models import Invoice, IssuedDocument, Plan, Subscription
from billing.tests import scene
from billing.tests.scene import called
from chatplatform import tenancy
from chatplatform.testing.commands import result_of, text_of
from tenants.selectors import TenantState

ISSUE = ("issue_invoices", "--month", "2026-04")


@pytest.fixture
def both(acme: TenantState, globex: TenantState) -> tuple[TenantState, TenantState]:
    """Acme has called, Globex has not."""
    scene.issuer()
    for tenant in (acme, globex):
        scene.on_plan(tenant.ref)
        scene.tenant(tenant.ref)
    with tenancy.in_tenant(acme.ref):
        called("1.25")
    return acme, globex


def test_it_issues_and_finds_what_it_issued(both: object) -> None:
    first = result_of(*ISSUE)
    [invoice] = first["invoices"]
    assert (invoice["tenant"], invoice["status"], invoice["number"], invoice["total"]) == (
        "acme",
        "issued",
        "INV-000001",
        "1.25",
    )
    assert (first["nothing"], first["failed"]) == (1, [])
    [again] = result_of(*ISSUE)["invoices"]
    assert (again["status"], again["id"]) == ("was issued", invoice["id"])
    text = text_of(*ISSUE)
    assert "INV-000001" in text and "2026-04: 1 was issued, 1 with nothing to bill." in text


def test_a_dry_run_writes_nothing(both: tuple[TenantState, TenantState]) -> None:
    [invoice] = result_of(*ISSUE, "--dry-run")["invoices"]
    assert (invoice["status"], invoice["total"]) == ("would be issued", "1.25")
    assert invoice["lines"] == [{"description": "Usage of openai/gpt-5", "amount": "1.25"}]
    assert "1 would be issued" in text_of(*ISSUE, "--dry-run")
    with tenancy.in_tenant(both[0].ref):
        assert not Invoice.objects.exists()


def test_this_month_can_only_be_looked_at(both: tuple[TenantState, TenantState]) -> None:
    today = timezone.now().date()
    this = ("issue_invoices", "--month", f"{today:%Y-%m}")
    with tenancy.in_tenant(both[0].ref):
        called("0.75", day=today)
    with pytest.raises(CommandError, match="can be invoiced from"):
        result_of(*this)
    assert result_of(*this, "--dry-run")["invoices"][0]["total"] == "0.75"
    with pytest.raises(CommandError, match="can be invoiced from"):
        result_of("issue_invoices", "--month", f"{months.after(today.replace(day=1)):%Y-%m}")


def test_one_tenants_trouble_is_not_the_others(both: tuple[TenantState, TenantState]) -> None:
    acme, globex = both
    with tenancy.in_tenant(globex.ref):
        called("2")
    with tenancy.in_platform():
        Subscription.objects.filter(tenant_id=acme.ref.id).delete()
        Plan.objects.filter(code=acme.tier).delete()
    out, said = io.StringIO(), io.StringIO()
    with pytest.raises(CommandError, match="No invoice for: acme"):
        call_command(*ISSUE, stdout=out, stderr=said)
    assert "globex" in out.getvalue() and "1 issued, 1 failed" in out.getvalue()
    assert "acme: FAILED: plan: acme has no plan" in said.getvalue()
    with tenancy.in_platform():
        assert IssuedDocument.objects.get().tenant_slug == "globex"


def test_only_the_tenants_that_are_named(both: tuple[TenantState, TenantState]) -> None:
    with tenancy.in_tenant(both[1].ref):
        called("2")
    named = result_of(*ISSUE, "--tenant", "globex", "--tenant", "globex")["invoices"]
    assert [(one["tenant"], one["total"]) for one in named] == [("globex", "2.00")]
    with pytest.raises(CommandError, match="no such tenant"):
        result_of(*ISSUE, "--tenant", "nobody")


def test_calls_that_came_late_are_told_of(both: tuple[TenantState, TenantState]) -> None:
    result_of(*ISSUE)
    with tenancy.in_tenant(both[0].ref):
        called("1", sequence=2)
    said = io.StringIO()
    call_command(*ISSUE, stdout=io.StringIO(), stderr=said)
    assert "acme: 1 calls came in after INV-000001 was issued." in said.getvalue()


def test_a_bar_is_shown_on_a_terminal(both: object) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    said = Terminal()
    call_command(*ISSUE, stdout=io.StringIO(), stderr=said)
    assert "1/2 globex" in said.getvalue()


def test_without_an_issuer_it_says_what_is_missing(acme: TenantState) -> None:
    scene.on_plan(acme.ref, monthly_fee=Decimal(1))
    scene.tenant(acme.ref)
    said = io.StringIO()
    with pytest.raises(CommandError):
        call_command(*ISSUE, "--tenant", "acme", stdout=io.StringIO(), stderr=said)
    assert "There is no issuer: add one in the console" in said.getvalue()


@pytest.mark.parametrize("month", ["2026-13", "April", "2026-4", "0001-01"])
def test_a_month_is_a_month(month: str, db: None) -> None:
    with pytest.raises(CommandError, match="not a month"):
        result_of("issue_invoices", "--month", month)
