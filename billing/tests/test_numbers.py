"""Numbers without a gap, and one invoice for each tenant and month, whoever issues at the same time."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections

from billing.models import Invoice, IssuedDocument, Issuer
from billing.services import credits, drafts, invoices
from billing.tests import scene
from billing.tests.scene import JUST_AFTER, MONTH, called
from billing.vocabulary import DocumentKind
from chatplatform import tenancy
from chatplatform.api.problem import Problem
from chatplatform.testing import cast
from tenants.models import Tenant
from tenants.selectors import TenantState

THREADS = 8


@pytest.fixture
def both(committed: None) -> Iterator[tuple[TenantState, TenantState]]:
    """Two tenants with a month of calls, seen by all threads."""
    acme, globex = cast.state("acme"), cast.state("globex")
    with scene.wiped(acme.ref, globex.ref):
        scene.issuer()
        for tenant in (acme, globex):
            scene.on_plan(tenant.ref)
            scene.tenant(tenant.ref)
            with tenancy.in_tenant(tenant.ref):
                called("3")
        yield acme, globex


def at_once(*work: Callable[[], object]) -> list[object]:
    """Run all of it at the same time, each in a thread of its own; what they answer or raise."""
    barrier = threading.Barrier(len(work))

    def run(one: Callable[[], object]) -> object:
        barrier.wait()
        try:
            return one()
        except Problem as problem:
            return problem
        finally:
            for connection in connections.all(initialized_only=True):
                connection.close()

    with ThreadPoolExecutor(len(work)) as threads:
        return list(threads.map(run, work))


def numbers() -> list[int]:
    with tenancy.in_platform():
        return list(IssuedDocument.objects.order_by("number").values_list("number", flat=True))


def test_runs_at_the_same_time_issue_one_invoice_each(both: tuple[TenantState, TenantState]) -> None:
    tenants = [scene.tenant(tenant.ref) for tenant in both]

    def issue(tenant: Tenant) -> Callable[[], object]:
        return lambda: invoices.issue(tenant, MONTH, now=JUST_AFTER)

    came = at_once(*(issue(tenant) for _ in range(THREADS // 2) for tenant in tenants))
    assert all(isinstance(one, invoices.Issued) for one in came)
    assert sum(one.is_new for one in came if isinstance(one, invoices.Issued)) == 2
    assert numbers() == [1, 2]
    with tenancy.in_platform():
        assert Issuer.objects.get(is_default=True).next_number == 3
    for tenant in both:
        with tenancy.in_tenant(tenant.ref):
            assert Invoice.objects.count() == 1


def test_two_runs_under_different_issuers_issue_one_invoice(both: tuple[TenantState, TenantState]) -> None:
    """The tenant's issuer was changed while a run was under way, so that no lock is common to the two."""
    acme = both[0]
    tenant = scene.tenant(acme.ref)
    first, second = drafts.draft(tenant, MONTH), drafts.draft(tenant, MONTH)
    assert first is not None and second is not None
    with tenancy.in_platform():
        other = Issuer.objects.create(name="Other")
    object.__setattr__(second, "issuer", other)
    prepared = iter((first, second))
    lock = threading.Lock()

    def draft(*_: object) -> object:
        with lock:
            return next(prepared)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(invoices, "draft", draft)
        came = at_once(*[lambda: invoices.issue(tenant, MONTH, now=JUST_AFTER)] * 2)
    assert len({one.document for one in came if isinstance(one, invoices.Issued)}) == 1
    with tenancy.in_platform():
        assert IssuedDocument.objects.count() == 1
        taken = Counter(IssuedDocument.objects.values_list("issuer_id", flat=True))
        for issuer in Issuer.objects.all():
            assert issuer.next_number == 1 + taken[issuer.id]


def test_credits_at_the_same_time_take_back_no_more_than_there_is(
    both: tuple[TenantState, TenantState],
) -> None:
    acme = both[0]
    invoice = scene.invoice(invoices.issue(scene.tenant(acme.ref), MONTH, now=JUST_AFTER).document)
    came = at_once(*[lambda: credits.credit(acme.ref, invoice.id, "At once")] * THREADS)
    assert sum(isinstance(one, IssuedDocument) for one in came) == 1
    assert sum(isinstance(one, Problem) for one in came) == THREADS - 1
    assert numbers() == [1, 2]
    with tenancy.in_platform():
        assert IssuedDocument.objects.get(kind=DocumentKind.CREDIT_NOTE).total == -invoice.total
