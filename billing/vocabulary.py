"""Closed vocabularies of the billing app."""

from __future__ import annotations

from django.db import models


class EntryKind(models.TextChoices):
    """What a row of the usage ledger is about."""

    CALL = "call", "Call to a provider"
    EMBEDDING = "embedding", "Embedding by a provider"
    CACHE_HIT = "cache_hit", "Answer out of the cache"


class CallOutcome(models.TextChoices):
    """How a call to a provider ended. Skipped: it was not made, because it could not have succeeded."""

    COMPLETED = "completed", "Completed"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"
    SKIPPED = "skipped", "Skipped"


class BudgetLevel(models.TextChoices):
    """What a balance counts. In this order the rows are locked: those that fewest replies share come first."""

    CONVERSATION = "1_conversation", "Conversation"
    CONTACT_MONTH = "2_contact_month", "End user, a month"
    TENANT_DAY = "3_tenant_day", "Tenant, a day"
    TENANT_MONTH = "4_tenant_month", "Tenant, a month"


class BudgetLimit(models.TextChoices):
    """The tenant's own limits, of whose approach it is told."""

    DAILY_COST = "daily_cost", "Cost, a day"
    MONTHLY_COST = "monthly_cost", "Cost, a month"
    MONTHLY_TOKENS = "monthly_tokens", "Tokens, a month"


class UsageBilling(models.TextChoices):
    """How a plan charges for usage."""

    TOKENS = "tokens", "Included tokens, then a price for each further million"
    COST = "cost", "What the calls cost, with the mark-up"


class DocumentKind(models.TextChoices):
    INVOICE = "invoice", "Invoice"
    CREDIT_NOTE = "credit_note", "Credit note"


class LineKind(models.TextChoices):
    FEE = "fee", "Monthly fee"
    USAGE = "usage", "Usage of a model"
    OVERAGE = "overage", "Tokens over those included"
    CREDIT = "credit", "Credit"


class PaymentStatus(models.TextChoices):
    """What a payment provider last said about an invoice."""

    WAITING = "waiting", "To be handed to the payment provider"
    SENT = "sent", "Handed to the payment provider"
    PAID = "paid", "Paid"
    FAILED = "failed", "Failed"
    VOIDED = "voided", "Voided"
    REFUNDED = "refunded", "Refunded"
