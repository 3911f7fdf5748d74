"""What a tenant has bought: the terms of its plan, kept with the tenant's state for 5 seconds at most."""

from __future__ import annotations

from collections import Counter
from datetime import date
from uuid import UUID

from django.utils import timezone

from billing.models import Plan, Subscription
from chatplatform import tenancy
from tenants.models import Tenant
from tenants.selectors import TenantState
from tenants.terms import Limits, Terms

# Another value after each change of the plan that a `tenant` is on today, and of which that is.
MARK = """(
    SELECT concat_ws(' ', plan.id, plan.xmin, plan.ctid) FROM billing_plan AS plan
    WHERE plan.code = tenant.tier OR plan.id = (
        SELECT plan_id FROM billing_subscription
        WHERE tenant_id = tenant.id AND starts <= (statement_timestamp() AT TIME ZONE 'UTC')::date
        ORDER BY starts DESC LIMIT 1
    )
    ORDER BY plan.code = tenant.tier LIMIT 1
)"""


def terms(state: TenantState) -> Terms:
    """The terms of the plan that the tenant is on. Touches no database."""
    return state.terms


def monthly_tokens(state: TenantState) -> int | None:
    """How many tokens a tenant may use in a month: the lower of its own budget and what its plan includes at most."""
    limits = (state.configuration.monthly_token_budget, state.terms.monthly_tokens)
    return min((limit for limit in limits if limit is not None), default=None)


def plan_on(tenant: Tenant, day: date) -> Plan:
    """The plan that a tenant is on that day: by its newest subscription, or else the one that its tier names."""
    if (subscription := subscription_on(tenant.id, day)) is not None:
        return subscription.plan
    with tenancy.in_platform():
        return Plan.objects.get(code=tenant.tier)


def subscription_on(tenant_id: UUID, day: date) -> Subscription | None:
    """The subscription in force that day, if any."""
    with tenancy.in_platform():
        begun = Subscription.objects.filter(tenant_id=tenant_id, starts__lte=day)
        return begun.select_related("plan").order_by("-starts").first()


def tenants_on_plans() -> Counter[UUID]:
    """How many tenants are on each plan today, by the plan's id."""
    with tenancy.in_platform():
        begun = Subscription.objects.filter(starts__lte=timezone.now().date()).order_by(
            "tenant_id", "-starts"
        )
        subscribed = dict(begun.distinct("tenant_id").values_list("tenant_id", "plan_id"))
        usual = dict(Plan.objects.values_list("code", "id"))
        tenants = Tenant.objects.values_list("id", "tier")
        return Counter(subscribed.get(tenant) or usual[tier] for tenant, tier in tenants)


def of_tenant(tenant: Tenant) -> Terms:
    """The terms that a tenant has today, out of the tables."""
    return of_plan(plan_on(tenant, timezone.now().date()))


def of_plan(plan: Plan) -> Terms:
    """A plan as terms."""
    return Terms(
        plan=plan.code,
        tier=plan.tier,
        fee=plan.monthly_fee,
        usage_billing=plan.usage_billing,
        included_tokens=plan.included_tokens,
        overage_price=plan.overage_price,
        markup_percent=plan.markup_percent,
        limits=Limits(plan.requests_per_minute, plan.tokens_per_minute, plan.user_requests_per_minute),
        features=frozenset(plan.features),
    )
