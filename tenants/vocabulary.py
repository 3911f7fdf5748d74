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


class Feature(models.TextChoices):
    """What a plan may include."""

    KNOWLEDGE = "knowledge", "Knowledge"
    TOOLS = "tools", "Tools"
    EXPERIMENTS = "experiments", "Experiments"
    ANALYTICS = "analytics", "Analytics"
    CUSTOM_DOMAINS = "custom_domains", "Own domains"
    SINGLE_SIGN_ON = "single_sign_on", "Single sign-on"


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


class AuditAction(models.TextChoices):
    """What the audit log records. The part before the dot is the kind of the object it was done to."""

    TENANT_REQUESTED = "tenant.requested", "Asked for a tenant"
    TENANT_RETRIED = "tenant.retried", "Started a tenant's birth again"
    TENANT_PROVISIONED = "tenant.provisioned", "Provisioned a tenant"
    TENANT_FAILED = "tenant.failed", "Failed to provision a tenant"
    TENANT_CHANGED = "tenant.changed", "Changed a tenant's name or tier"
    TENANT_SUSPENDED = "tenant.suspended", "Suspended a tenant"
    TENANT_RESUMED = "tenant.resumed", "Resumed a tenant"
    TENANT_MIGRATED = "tenant.migrated", "Migrated a tenant's schema"
    TENANT_ERASED = "tenant.erased", "Erased a tenant"
    CONFIGURATION_CHANGED = "configuration.changed", "Changed a configuration"
    DOMAIN_ADDED = "domain.added", "Added a domain"
    DOMAIN_REMOVED = "domain.removed", "Removed a domain"
    KEY_CREATED = "key.created", "Made an API key"
    KEY_REPLACED = "key.replaced", "Replaced an API key"
    KEY_REVOKED = "key.revoked", "Revoked an API key"
    SIGNING_KEYS_ROTATED = "signing_key.rotated", "Rotated the signing keys"
    MASTER_KEY_ROTATED = "key.master_rotated", "Wrapped the tenants' keys under another master key"
    DATA_KEYS_ROTATED = "key.data_rotated", "Replaced the key that wraps the keys of texts"
    ISSUER_REGISTERED = "issuer.registered", "Registered a token issuer"
    ISSUER_REMOVED = "issuer.removed", "Removed a token issuer"
    STAFF_SIGNED_IN = "staff.signed_in", "Signed in"
    STAFF_SIGN_IN_FAILED = "staff.sign_in_failed", "Failed to sign in"
    STAFF_SIGNED_OUT = "staff.signed_out", "Signed out"
    STAFF_FACTOR_ADDED = "staff.factor_added", "Added a second factor of staff"
    STAFF_FACTOR_REMOVED = "staff.factor_removed", "Removed a second factor of staff"
    STAFF_FACTORS_RESET = "staff.factors_reset", "Took all second factors from staff"
    STAFF_CODES_MADE = "staff.codes_made", "Made recovery codes for staff"
    STAFF_PROVED = "staff.proved", "Showed a second factor as staff"
    STAFF_PROOF_FAILED = "staff.proof_failed", "Failed to show a second factor as staff"
    STAFF_ADDED = "staff.added", "Added a staff account"
    STAFF_CHANGED = "staff.changed", "Changed a staff account"
    STAFF_REMOVED = "staff.removed", "Removed a staff account"
    GROUP_ADDED = "group.added", "Added a group"
    GROUP_CHANGED = "group.changed", "Changed a group"
    GROUP_REMOVED = "group.removed", "Removed a group"
    MEMBER_INVITED = "member.invited", "Invited a member"
    MEMBER_JOINED = "member.joined", "Joined as a member"
    MEMBER_ROLE_CHANGED = "member.role_changed", "Gave a member another role"
    MEMBER_DISABLED = "member.disabled", "Shut a member out"
    MEMBER_ENABLED = "member.enabled", "Let a member in again"
    MEMBER_PASSWORD_CHANGED = "member.password_changed", "Changed a member's password"
    MEMBER_SIGNED_IN = "member.signed_in", "Signed in as a member"
    MEMBER_SIGN_IN_FAILED = "member.sign_in_failed", "Failed to sign in as a member"
    MEMBER_SIGNED_OUT = "member.signed_out", "Signed a member's browser out"
    MEMBER_FACTOR_ADDED = "member.factor_added", "Added a member's second factor"
    MEMBER_FACTOR_REMOVED = "member.factor_removed", "Removed a member's second factor"
    MEMBER_FACTORS_RESET = "member.factors_reset", "Took all second factors from a member"
    MEMBER_CODES_MADE = "member.codes_made", "Made recovery codes for a member"
    MEMBER_PROVED = "member.proved", "Showed a second factor as a member"
    MEMBER_PROOF_FAILED = "member.proof_failed", "Failed to show a second factor as a member"
    MEMBER_LINKED = "member.linked", "Linked a member's account elsewhere"
    MEMBER_UNLINKED = "member.unlinked", "Unlinked a member's account elsewhere"
    SECOND_FACTOR_NEEDED = "sign_in.second_factor_needed", "Changed whether members need a second factor"
    PROVIDER_ADDED = "sign_in_provider.added", "Added a sign-in provider"
    PROVIDER_CHANGED = "sign_in_provider.changed", "Changed a sign-in provider"
    PROVIDER_REMOVED = "sign_in_provider.removed", "Removed a sign-in provider"
    TENANT_EXPORTED = "tenant.exported", "Exported a tenant"
    TENANT_IMPORTED = "tenant.imported", "Made a tenant out of an archive"
    CONTACT_EXPORTED = "contact.exported", "Exported an end user"
    CONTACT_ERASED = "contact.erased", "Erased an end user"
    CONVERSATIONS_EXPIRED = "conversation.expired", "Deleted what was kept for long enough"
    CONVERSATIONS_LISTED = "conversation.listed", "Listed conversations"
    CONVERSATIONS_SEARCHED = "conversation.searched", "Searched conversations"
    CONVERSATION_READ = "conversation.read", "Read a conversation"
    PRICES_UPDATED = "price.updated", "Updated the prices from the list"
    PRICE_SET = "price.set", "Set a price of our own"
    PRICE_RESET = "price.reset", "Let the list's price hold again"
    PLAN_SAVED = "plan.saved", "Wrote a plan"
    PLAN_CHOSEN = "plan.chosen", "Put a tenant on a plan"
    INVOICE_READ = "invoice.read", "Read an invoice"
    INVOICE_ISSUED = "invoice.issued", "Issued an invoice"
    INVOICE_CREDITED = "invoice.credited", "Issued a credit note"
    INVOICE_PAID = "invoice.paid", "Wrote down a payment"
    SPENDING_READ = "spending.read", "Looked at the spending"
    HOLDS_RETURNED = "hold.returned", "Gave back what dead attempts held"
    DOCUMENT_INGESTED = "document.ingested", "Took in a document"
    DOCUMENT_REMOVED = "document.removed", "Removed a document"
    CONSOLE_ADDED = "console.added", "Added a row in the console"
    CONSOLE_CHANGED = "console.changed", "Changed a row in the console"
    CONSOLE_REMOVED = "console.removed", "Removed a row in the console"
    AUDIT_EXPORTED = "audit.exported", "Exported the audit log"


class ActorKind(models.TextChoices):
    """Who did what the audit log records; each has ids of its own."""

    STAFF = "staff", "Staff"  # the account's id
    MEMBER = "member", "Member"  # the membership's id
    KEY = "key", "API key"  # its public id
    CONTACT = "contact", "End user"  # the contact's id, in the tenant's schema
    OPERATOR = "operator", "Operator"  # the account of the operating system that ran a command
    SYSTEM = "system", "System"  # the job's name
    NOBODY = "nobody", "Nobody known"  # somebody who has not signed in


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


class FactorKind(models.TextChoices):
    """What a second factor can be."""

    APP = "app", "App"
    PASSKEY = "passkey", "Passkey"
    CODE = "code", "Recovery code"


class Action(models.TextChoices):
    """What can be done in a tenant's console."""

    VIEW_USAGE = "view_usage", "See what is used and what it costs"
    VIEW_INVOICES = "view_invoices", "See invoices"
    READ_CONVERSATIONS = "read_conversations", "Read conversations"
    VIEW_MEMBERS = "view_members", "See who is a member"
    MANAGE_MEMBERS = "manage_members", "Invite, change and disable members"
    MANAGE_OWNERS = "manage_owners", "Make members owners, and change owners"
    MANAGE_SIGN_IN = "manage_sign_in", "Say how members sign in"
    VIEW_CONFIGURATION = "view_configuration", "See the configuration"
    EDIT_CONFIGURATION = "edit_configuration", "Change the configuration"
    MANAGE_KEYS = "manage_keys", "Make and revoke API keys"
