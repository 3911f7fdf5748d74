"""Which rate limits hold for a tenant and its users.

The tenant's configuration says what it may do in a minute, its tier and its plan what it may at most, and the platform
has limits of its own for all tenants together. Where two say something about the same, the lowest holds.
"""

from __future__ import annotations

from uuid import UUID

from django.conf import settings

from chatplatform import tenancy
from chatplatform.ratelimit import Level
from chatplatform.tenancy import TenantRef
from tenants.selectors import TenantState
from tenants.terms import Limits
from tenants.vocabulary import LimitLevel

UNLIMITED = (None, None)
NONE = Limits()


def of_tenant(state: TenantState) -> Limits:
    """What holds for a tenant: the lowest of what its configuration, its tier and its plan say."""
    configuration, tier, plan = state.configuration, of_tier(state.tier), state.terms.limits
    return Limits(
        requests=_lowest(configuration.requests_per_minute, tier.requests, plan.requests),
        tokens=_lowest(configuration.tokens_per_minute, tier.tokens, plan.tokens),
        user_requests=_lowest(configuration.user_requests_per_minute, tier.user_requests, plan.user_requests),
    )


def of_tier(tier: str) -> Limits:
    """What a tenant of this tier may at most (TIER_LIMITS)."""
    return Limits(*settings.TIER_LIMITS.get(tier, ()))


def levels(state: TenantState, contact: UUID | None = None) -> list[Level]:
    """Where a call of this tenant and end user is counted: only where there is a limit, the narrowest first."""
    found, counted = of_tenant(state), []
    together = settings.GLOBAL_REQUESTS_PER_MINUTE, settings.GLOBAL_TOKENS_PER_MINUTE
    if found != NONE:  # each turn asks twice
        with tenancy.in_tenant(state.ref):
            if contact is not None and found.user_requests is not None:
                user = tenancy.key("rate", "user", contact)
                counted.append(Level(LimitLevel.USER, user, found.user_requests))
            if (found.requests, found.tokens) != UNLIMITED:
                tenant = tenancy.key("rate", "tenant")
                counted.append(Level(LimitLevel.TENANT, tenant, found.requests, found.tokens))
    if together != UNLIMITED:
        with tenancy.in_platform():
            counted.append(Level(LimitLevel.GLOBAL, tenancy.key("rate", "global"), *together))
    return counted


def call_key(tenant: TenantRef, call: UUID) -> str:
    """Under which name the tokens of a call are found again."""
    with tenancy.in_tenant(tenant):
        return tenancy.key("rate", "call", call)


def _lowest(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)
