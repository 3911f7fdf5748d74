"""Plans and who is on them. A change is in force everywhere within 5 s."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.utils import timezone

from billing import plans
from billing.models import Plan, PlanVersion, Subscription
from billing.vocabulary import UsageBilling
from chatplatform import tenancy
from chatplatform.api.problem import invalid
from chatplatform.tenancy import TenantRef
from tenants import audit, control
from tenants.models import Tenant
from tenants.vocabulary import AuditAction, Feature, Tier

CHANGED = "plans_changed"
BEGINNING = date(1970, 1, 1)
SMALL = [Feature.KNOWLEDGE, Feature.TOOLS]
LARGE = [*SMALL, Feature.EXPERIMENTS, Feature.ANALYTICS, Feature.CUSTOM_DOMAINS]

# Written once, for staff to change. None of them has ceilings: whoever was served before there were plans still is.
USUAL: tuple[dict[str, Any], ...] = (
    {"code": Tier.FREE, "usage_billing": UsageBilling.COST, "features": SMALL},
    {
        "code": Tier.PRO,
        "monthly_fee": Decimal(49),
        "usage_billing": UsageBilling.TOKENS,
        "included_tokens": 10_000_000,
        "overage_price": Decimal(5),
        "features": LARGE,
    },
    {
        "code": Tier.ENTERPRISE,
        "monthly_fee": Decimal(499),
        "usage_billing": UsageBilling.COST,
        "markup_percent": Decimal(10),
        "features": list(Feature),
    },
    {"code": Tier.CUSTOM, "usage_billing": UsageBilling.COST, "features": list(Feature)},
)


def seed() -> None:
    """Write those of the usual plans that are missing."""
    with tenancy.in_platform():
        known = set(Plan.objects.values_list("code", flat=True))
        Plan.objects.bulk_create(
            (
                Plan(name=Tier(plan["code"]).label, tier=plan["code"], **plan)
                for plan in USUAL
                if plan["code"] not in known
            ),
            ignore_conflicts=True,  # two may migrate at once
        )


def save(plan: Plan) -> None:
    """Write a plan, new or changed; every tenant on it has the new terms. Raises ValidationError.

    What it charges is new from today (UTC) on: the days before are invoiced as it was.
    """
    with tenancy.in_platform(), transaction.atomic():
        plan.full_clean()
        _write_down_what_it_charged(plan)
        plan.save()
        audit.record(AuditAction.PLAN_SAVED, plan.code)
    control.publish(CHANGED)


def _write_down_what_it_charged(plan: Plan) -> None:
    """Before a plan charges something else, what it has charged, and what it will from today on."""
    known = Plan.objects.select_for_update().filter(pk=plan.pk).first()
    if known is None or known.charges == plan.charges:
        return
    if not known.versions.exists():
        PlanVersion.objects.create(plan=known, starts=BEGINNING, **known.charges)
    today = timezone.now().date()
    PlanVersion.objects.update_or_create(plan=known, starts=today, defaults=plan.charges)


def subscribe(tenant: TenantRef, plan: Plan, starts: date, *, author: str = "") -> Subscription:
    """Put a tenant on a plan from a day (UTC) on; a subscription that begins the same day is replaced.

    The tenant's tier follows the plan. Raises Problem: the plan is not offered, or the day is over.
    """
    today = timezone.now().date()
    if not plan.active:
        raise invalid("plan", "Tenants cannot be put on this plan any more.")
    if starts < today:
        raise invalid("starts", "This day is over, and what was charged stays as it is.")
    with tenancy.in_platform(), transaction.atomic():
        _write_down_the_plan_so_far(Tenant.objects.get(id=tenant.id), starts)
        subscription, _ = Subscription.objects.update_or_create(
            tenant_id=tenant.id, starts=starts, defaults={"plan": plan, "author": author}
        )
        audit.record(AuditAction.PLAN_CHOSEN, plan.code, tenant=tenant.id, starts=str(starts))
    follow(tenant)
    return subscription


def tier_changes(tenant: Tenant, tier: str, **_: Any) -> None:
    """Staff moves a tenant (as it was) to another tier: whoever is on its tier's own plan is on the new one's from
    today on.
    """
    today = timezone.now().date()
    subscription = plans.subscription_on(tenant.id, today)
    plan = Plan.objects.filter(code=tier).first()
    if plan is None or (subscription and subscription.plan.code != tenant.tier):
        return
    _write_down_the_plan_so_far(tenant, today)
    Subscription.objects.update_or_create(tenant=tenant, starts=today, defaults={"plan": plan})


def _write_down_the_plan_so_far(tenant: Tenant, until: date) -> None:
    """Whoever has no subscription is on the plan of its tier. Before that becomes another one, it is written down, for
    the invoice of the days until then.
    """
    born, plan = tenant.created_at.date(), Plan.objects.filter(code=tenant.tier).first()
    if plan and born < until and not Subscription.objects.filter(tenant=tenant).exists():
        Subscription.objects.create(tenant=tenant, plan=plan, starts=born)


def follow(tenant: TenantRef) -> None:
    """Note the tier of the plan that the tenant is on today."""
    with tenancy.in_platform():
        row = Tenant.objects.get(id=tenant.id)
        tier = plans.plan_on(row, timezone.now().date()).tier
        Tenant.objects.filter(id=tenant.id).exclude(tier=tier).update(tier=tier, updated_at=timezone.now())
    control.tenant_changed(tenant.id)


def follow_all() -> int:
    """Note the tiers of plans that have begun since. Returns how many tenants were moved.

    What is served does not wait for it: a tenant's state has the tier of its plan from the first second on.
    """
    today = timezone.now().date()
    with tenancy.in_platform():
        begun = (
            Subscription.objects.filter(starts__lte=today)
            .order_by("tenant_id", "-starts")
            .distinct("tenant_id")
        )
        moved = [
            one.tenant.ref
            for one in begun.select_related("plan", "tenant")
            if one.plan.tier != one.tenant.tier
        ]
    for tenant in moved:
        follow(tenant)
    return len(moved)
