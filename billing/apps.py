from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class BillingConfig(AppConfig):
    name = "billing"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from billing import plans, pricing
        from billing.services.plans import CHANGED as PLANS_CHANGED
        from billing.services.plans import tier_changes
        from billing.services.prices import CHANGED as PRICES_CHANGED
        from tenants import control, selectors, signals

        control.on(PRICES_CHANGED, lambda message: pricing.forget())
        control.on(PLANS_CHANGED, lambda message: selectors.forget())
        selectors.ask_for_terms(plans.of_tenant, plans.MARK)
        signals.tier_changes.connect(tier_changes)
        post_migrate.connect(seed, sender=self)


def seed(apps: Any, **kwargs: Any) -> None:
    """The prices of the list and the usual plans, for a database that has just got their tables."""
    from billing.services import plans, prices

    if "billing" in apps.all_models and "modelprice" in apps.all_models["billing"]:
        prices.seed()
        plans.seed()
