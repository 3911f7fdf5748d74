"""A tenant's state is kept, and only what was changed is read again, whatever that is, nobody having been told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from billing.models import Plan, Subscription
from chatplatform import tenancy
from chatplatform.testing import cast
from tenants import selectors
from tenants.models import ConfigurationVersion, Tenant
from tenants.selectors import TenantState

pytestmark = pytest.mark.django_db
TODAY = timezone.now().date


def other_plan(state: TenantState) -> Plan:
    return Plan.objects.exclude(code=state.terms.plan).order_by("code")[0]


def plan_changes(state: TenantState) -> None:
    Plan.objects.filter(code=state.terms.plan).update(markup_percent=77)


def subscribed(state: TenantState) -> None:
    Subscription.objects.create(tenant_id=state.ref.id, plan=other_plan(state), starts=TODAY())


def subscribed_yesterday(state: TenantState) -> None:
    yesterday = TODAY() - timedelta(days=1)
    Subscription.objects.create(tenant_id=state.ref.id, plan=other_plan(state), starts=yesterday)


def renamed(state: TenantState) -> None:
    Tenant.objects.filter(id=state.ref.id).update(name="Another name")


def configured(state: TenantState) -> None:
    row = ConfigurationVersion.objects.filter(tenant_id=state.ref.id).latest("number")
    row.pk, row.number, row.greeting = None, row.number + 1, "Another greeting"
    row.save(force_insert=True)


@pytest.mark.parametrize("change", [plan_changes, subscribed, subscribed_yesterday, renamed, configured])
def test_every_change_is_seen(change: Callable[[TenantState], None], django_assert_num_queries: Any) -> None:
    tenant = cast.state("acme").ref.id
    before = selectors.state(tenant)
    selectors._states.make_old(tenant)
    with django_assert_num_queries(1):
        assert selectors.state(tenant) is before
    with tenancy.in_platform():
        change(before)
    selectors._states.make_old(tenant)
    assert selectors.state(tenant) != before


def test_a_plan_that_begins_tomorrow_changes_nothing(django_assert_num_queries: Any) -> None:
    before = cast.state("acme")
    with tenancy.in_platform():
        tomorrow = TODAY() + timedelta(days=1)
        Subscription.objects.create(tenant_id=before.ref.id, plan=other_plan(before), starts=tomorrow)
    selectors._states.make_old(before.ref.id)
    with django_assert_num_queries(1):
        assert selectors.state(before.ref.id) is before
