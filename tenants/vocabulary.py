"""Closed vocabularies of the tenants app."""

from __future__ import annotations

from django.db import models


class TenantStatus(models.TextChoices):
    """The birth and life of a tenant. A failed birth can be tried again from where it stopped."""

    REQUESTED = "requested", "Requested"
    SCHEMA = "schema", "Schema made"
    SEEDED = "seeded", "Seeded"
    ACTIVE = "active", "Active"
    SUSPENDED = "suspended", "Suspended"
    FAILED = "failed", "Failed"


class Tier(models.TextChoices):
    FREE = "free", "Free"
    PRO = "pro", "Pro"
    ENTERPRISE = "enterprise", "Enterprise"
    CUSTOM = "custom", "Custom"


class Scope(models.TextChoices):
    """What an API key or token may do (CONTRACT §4)."""

    CHAT = "chat", "Chat"
    KNOWLEDGE = "knowledge", "Knowledge"
    EXPERIMENTS = "experiments", "Experiments"
    ANALYTICS = "analytics", "Analytics"
    BILLING_READ = "billing:read", "Billing, read"
    CONFIG = "config", "Configuration"
    PLATFORM = "platform", "Platform"


class SigningKeyState(models.TextChoices):
    """The life of a key that the platform signs with. All but retired ones are published."""

    NEXT = "next", "Next"
    CURRENT = "current", "Current"
    PREVIOUS = "previous", "Previous"
    RETIRED = "retired", "Retired"


class LookAction(models.TextChoices):
    """What a staff member looked at in a tenant."""

    LIST = "list", "Listed conversations"
    SEARCH = "search", "Searched conversations"
    READ = "read", "Read a conversation"
    INVOICE = "invoice", "Read an invoice"


class LimitLevel(models.TextChoices):
    """Whose limit a call met (CONTRACT §7)."""

    USER = "user", "User"
    TENANT = "tenant", "Tenant"
    GLOBAL = "global", "Platform"
