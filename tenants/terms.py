"""What a tenant has bought, as the rest of the platform sees it. The plans themselves are the billing app's."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Limits:
    """What may pass in a minute; None is no limit. `user_requests` is for each end user."""

    requests: int | None = None
    tokens: int | None = None
    user_requests: int | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of the plan that a tenant is on: `fee` in US dollars a month, `overage_price` for each further million.

    `usage_billing` is a word of `billing.vocabulary`, `features` are some of `Feature`. `limits` are ceilings over the
    tenant's own.
    """

    plan: str = ""
    tier: str = ""
    fee: Decimal = Decimal(0)
    usage_billing: str = "cost"
    included_tokens: int = 0
    overage_price: Decimal | None = None
    markup_percent: Decimal = Decimal(0)
    limits: Limits = Limits()
    features: frozenset[str] = frozenset()

    def includes(self, feature: str) -> bool:
        """Whether the plan has this."""
        return feature in self.features

    @property
    def monthly_tokens(self) -> int | None:
        """How many tokens the plan allows in a month; None is as many as the tenant wants to pay for."""
        only_included = self.usage_billing == "tokens" and self.overage_price is None
        return self.included_tokens if only_included else None
