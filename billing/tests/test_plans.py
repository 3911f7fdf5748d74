"""Plans: what a tenant on one may, and from which day."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db.models import F
from django.test import override_settings
from django.utils import timezone

from billing import plans
from billing.models import Plan, Subscription
from billing.services import budgets
from billing.services import plans as service
from billing.vocabulary import UsageBilling
from chatplatform import tenancy
from chatplatform.api.problem import Problem
from chatplatform.testing import cast
from tenants import limits, selectors
from tenants.models import Tenant
from tenants.selectors import TenantState
from tenants.services import configuration, profile
from tenants.terms import Limits, Terms
from tenants.vocabulary import Feature, Tier

pytestmark = pytest.mark.django_db


def today() -> date:
    return timezone.now().date()


def plan(code: str = "startup", **values: Any) -> Plan:
    """A plan of its own, saved as staff saves it."""
    values = {"tier": Tier.PRO, "usage_billing": UsageBilling.COST, "name": code, **values}
    made = Plan(code=code, **values)
    service.save(made)
    return made


def of(state: TenantState, day: date) -> str:
    with tenancy.in_platform():
        return plans.plan_on(Tenant.objects.get(id=state.ref.id), day).code


def test_a_migrated_database_has_a_plan_for_each_tier_and_they_limit_nothing() -> None:
    with tenancy.in_platform():
        usual = {plan.code: plans.of_plan(plan) for plan in Plan.objects.all()}
    assert set(usual) == set(Tier.values)
    for code, terms in usual.items():
        assert terms.tier == code
        assert terms.limits == Limits()
        assert terms.monthly_tokens is None


def test_seeding_again_leaves_what_staff_changed_and_adds_what_is_missing() -> None:
    with tenancy.in_platform():
        Plan.objects.filter(code="pro").update(monthly_fee=Decimal(7))
        Plan.objects.filter(code="custom").delete()
    service.seed()
    with tenancy.in_platform():
        assert Plan.objects.get(code="pro").monthly_fee == 7
        assert Plan.objects.get(code="custom").features == list(Feature)


def test_without_a_subscription_the_tier_names_the_plan(acme: TenantState) -> None:
    assert (acme.tier, plans.terms(acme).plan) == ("free", "free")
    assert acme.terms.includes(Feature.KNOWLEDGE)
    assert not acme.terms.includes(Feature.SINGLE_SIGN_ON)
    profile.change(acme.ref, name="Acme", tier=Tier.ENTERPRISE)
    changed = cast.state("acme")
    assert changed.tier == changed.terms.plan == "enterprise"
    assert changed.terms.includes(Feature.SINGLE_SIGN_ON)


def test_a_subscription_brings_its_terms_and_its_tier(acme: TenantState, globex: TenantState) -> None:
    bought = plan(
        monthly_fee=Decimal(99),
        markup_percent=Decimal("12.5"),
        requests_per_minute=30,
        user_requests_per_minute=5,
        features=[Feature.TOOLS],
    )
    service.subscribe(acme.ref, bought, today(), author="kim")
    assert plans.terms(cast.state("acme")) == Terms(
        plan="startup",
        tier="pro",
        fee=Decimal(99),
        usage_billing="cost",
        markup_percent=Decimal("12.5"),
        limits=Limits(30, None, 5),
        features=frozenset({"tools"}),
    )
    with tenancy.in_platform():
        assert dict(Tenant.objects.values_list("slug", "tier")) == {"acme": "pro", "globex": "free"}
    assert cast.state("globex").terms.plan == "free"


def test_the_lowest_of_configuration_tier_and_plan_holds(acme: TenantState) -> None:
    acme.configuration.requests_per_minute = 20
    with tenancy.in_platform():
        acme.configuration.save()
    service.subscribe(
        acme.ref, plan(requests_per_minute=30, tokens_per_minute=900, user_requests_per_minute=5), today()
    )
    assert limits.of_tenant(cast.state("acme")) == Limits(20, 900, 5)
    with override_settings(TIER_LIMITS={"pro": (10, 2000, None)}):
        assert limits.of_tenant(cast.state("acme")) == Limits(10, 900, 5)


def test_a_plan_begins_on_its_day_and_ends_when_the_next_begins(acme: TenantState) -> None:
    first, second = plan("first"), plan("second", tier=Tier.ENTERPRISE)
    begins, ends = today() + timedelta(days=3), today() + timedelta(days=10)
    service.subscribe(acme.ref, second, ends)
    service.subscribe(acme.ref, first, begins)
    assert cast.state("acme").terms.plan == "free"
    days = [begins - timedelta(days=1), begins, ends - timedelta(days=1), ends, ends + timedelta(days=400)]
    assert [of(acme, day) for day in days] == ["free", "first", "first", "second", "second"]


@pytest.fixture
def old(acme: TenantState) -> date:
    """The day on which Acme was born, long ago."""
    born = today() - timedelta(days=400)
    with tenancy.in_platform():
        Tenant.objects.filter(id=acme.ref.id).update(created_at=datetime.combine(born, time(), UTC))
    return born


def test_the_days_before_the_first_subscription_keep_their_plan(acme: TenantState, old: date) -> None:
    service.subscribe(acme.ref, plan("bought", tier=Tier.PRO), today())
    assert cast.state("acme").tier == "pro"
    days = [old, today() - timedelta(days=1), today()]
    assert [of(acme, day) for day in days] == ["free", "free", "bought"]


def test_the_days_before_a_change_of_tier_keep_their_plan(acme: TenantState, old: date) -> None:
    profile.change(acme.ref, name="Acme", tier=Tier.PRO)
    with tenancy.in_platform():
        Subscription.objects.filter(plan__code="pro").update(starts=today() - timedelta(days=9))  # days pass
    profile.change(acme.ref, name="Acme", tier=Tier.ENTERPRISE)
    days = [old, today() - timedelta(days=10), today() - timedelta(days=1), today()]
    assert [of(acme, day) for day in days] == ["free", "free", "pro", "enterprise"]
    assert cast.state("acme").terms.plan == "enterprise"


def test_a_plan_that_was_bought_stays_whatever_the_tier(acme: TenantState) -> None:
    service.subscribe(acme.ref, plan("bought", tier=Tier.PRO), today())
    profile.change(acme.ref, name="Acme", tier=Tier.ENTERPRISE)
    assert of(acme, today()) == "bought"


def test_the_same_day_again_replaces_what_was_to_begin(acme: TenantState) -> None:
    service.subscribe(acme.ref, plan("first"), today())
    service.subscribe(acme.ref, plan("second"), today())
    assert of(acme, today()) == "second"


def test_the_tier_of_a_plan_that_has_begun_is_written_down(acme: TenantState, globex: TenantState) -> None:
    bought = plan()
    service.subscribe(acme.ref, bought, today() + timedelta(days=1))
    assert service.follow_all() == 0
    with tenancy.in_platform():
        Subscription.objects.update(starts=F("starts") - timedelta(days=1))  # a day passes
    assert cast.state("acme").tier == "pro"  # what is served does not wait for it
    assert service.follow_all() == 1
    with tenancy.in_platform():
        assert Tenant.objects.get(slug="acme").tier == "pro"
    assert service.follow_all() == 0


def test_a_changed_plan_changes_for_everybody_on_it(acme: TenantState) -> None:
    bought = plan()
    service.subscribe(acme.ref, bought, today())
    state = cast.state("acme")
    bought.markup_percent = Decimal(50)
    service.save(bought)
    assert state.terms.markup_percent == 0
    assert selectors.tenant_by_slug("acme").terms.markup_percent == 50


@pytest.mark.parametrize(
    ("billing", "included", "overage", "allowed"),
    [
        (UsageBilling.TOKENS, 1000, None, 1000),
        (UsageBilling.TOKENS, 1000, Decimal(2), None),
        (UsageBilling.COST, 0, None, None),
    ],
)
def test_included_tokens_without_a_price_for_more_are_a_ceiling(
    billing: str, included: int, overage: Decimal | None, allowed: int | None
) -> None:
    made = plan(usage_billing=billing, included_tokens=included, overage_price=overage)
    assert plans.of_plan(made).monthly_tokens == allowed


@pytest.mark.parametrize(
    ("own", "overage", "holds"),
    [(None, None, 1000), (400, None, 400), (5000, None, 1000), (5000, Decimal(2), 5000)],
)
def test_budgets_keep_the_ceiling_and_the_tenants_own_limit(
    acme: TenantState, own: int | None, overage: Decimal | None, holds: int
) -> None:
    bought = plan(usage_billing=UsageBilling.TOKENS, included_tokens=1000, overage_price=overage)
    service.subscribe(acme.ref, bought, today())
    configuration.change(acme.ref, {"monthly_token_budget": own}, author="kim", by_staff=True)
    assert budgets.limits_of(cast.state("acme")).tenant_month_tokens == holds


def test_a_plan_that_would_allow_nothing_is_refused() -> None:
    with pytest.raises(ValidationError):
        plan(usage_billing=UsageBilling.TOKENS, included_tokens=0)
    with pytest.raises(ValidationError):
        plan(monthly_fee=Decimal(-1))


def test_nobody_is_put_on_a_plan_in_the_past_or_on_one_that_is_not_offered(acme: TenantState) -> None:
    with pytest.raises(Problem):
        service.subscribe(acme.ref, plan(), today() - timedelta(days=1))
    with pytest.raises(Problem):
        service.subscribe(acme.ref, plan("old", active=False), today())
    assert of(acme, today()) == "free"
