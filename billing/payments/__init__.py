"""How invoices are paid: one interface, and what stands behind it."""

from __future__ import annotations

from functools import cache

from django.conf import settings

from billing.payments.base import Bill, BillLine, Credit, NotTaken, PaymentProvider, Unsigned, Word
from billing.payments.null import NoProvider

__all__ = ["Bill", "BillLine", "Credit", "NotTaken", "PaymentProvider", "Unsigned", "Word", "provider"]


def provider() -> PaymentProvider:
    """The provider that the settings name; without a key it is the one that does nothing."""
    if not settings.STRIPE_API_KEY:
        return NoProvider()
    return _stripe(settings.STRIPE_API_KEY, settings.STRIPE_API_BASE, settings.STRIPE_WEBHOOK_SECRET)


@cache
def _stripe(key: str, base: str, webhook_secret: str) -> PaymentProvider:
    from billing.payments.stripe import Stripe  # takes a quarter of a second, which only its users should pay

    return Stripe(key, base, webhook_secret)
