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
    SPEND = "spend", "Looked at what it spends"


class LimitLevel(models.TextChoices):
    """Whose limit a call met (CONTRACT §7)."""

    USER = "user", "User"
    TENANT = "tenant", "Tenant"
    GLOBAL = "global", "Platform"


class MemberRole(models.TextChoices):
    """What a member of a tenant is there for; `tenants.auth.roles` says what each may do."""

    OWNER = "owner", "Owner"
    ADMIN = "admin", "Admin"
    ANALYST = "analyst", "Analyst"
    SUPPORT = "support", "Support agent"
    VIEWER = "viewer", "Viewer"


class MemberState(models.TextChoices):
    INVITED = "invited", "Invited"
    JOINED = "joined", "Joined"
    DISABLED = "disabled", "Disabled"


class Action(models.TextChoices):
    """What can be done in a tenant's console."""

    VIEW_USAGE = "view_usage", "See what is used and what it costs"
    VIEW_INVOICES = "view_invoices", "See invoices"
    READ_CONVERSATIONS = "read_conversations", "Read conversations"
    VIEW_MEMBERS = "view_members", "See who is a member"
    MANAGE_MEMBERS = "manage_members", "Invite, change and disable members"
    MANAGE_OWNERS = "manage_owners", "Make members owners, and change owners"
    VIEW_CONFIGURATION = "view_configuration", "See the configuration"
    EDIT_CONFIGURATION = "edit_configuration", "Change the configuration"
    MANAGE_KEYS = "manage_keys", "Make and revoke API keys"
