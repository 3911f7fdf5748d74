"""What `check_platform` looks at. Each check is a function that returns a finding, and a hint if need be."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.db.models import F
from django.utils import timezone

from billing import pricing
from chatplatform.management import server_checks
from chatplatform.management.findings import Finding, Status, failed, ok, warning
from chatplatform.postgres import migrations
from conversations.gateway import config
from conversations.rag import embedders
from tenants import keyring
from tenants.audit import keys as audit_keys
from tenants.models import ApiKey, AuditHead, ConfigurationVersion, Tenant
from tenants.services import migration
from tenants.vocabulary import TenantStatus

LEAST_FREE = 1 << 30  # bytes
SHORTEST_SECRET = 32
OWN_MASTER_KEYS = "tenants.master_keys.FromSettings"


@dataclass(frozen=True, slots=True)
class Check:
    """One check, by the name that people read."""

    name: str
    look: Callable[[], Finding]

    def run(self) -> Finding:
        """The finding; an exception is one too."""
        try:
            return self.look()
        except Exception as error:
            first = (str(error).strip().splitlines() or [""])[0]
            return failed(
                f"{type(error).__name__}: {first}", "Is the server running, and is its address right?"
            )


def secret_key() -> Finding:
    if len(settings.SECRET_KEY) < SHORTEST_SECRET:
        return failed(
            f"{len(settings.SECRET_KEY)} characters", f"Use {SHORTEST_SECRET} random characters or more."
        )
    if settings.DEBUG:
        return warning("fine, but debug pages are on", "Unset DJANGO_DEBUG wherever strangers can connect.")
    return ok(f"{len(settings.SECRET_KEY)} characters")


def master_key() -> Finding:
    if missing := keyring.missing(all_of_them=True):
        return failed(missing, "Give all processes the same MASTER_KEY, and MASTER_OLD_KEYS those before it.")
    if settings.MASTER_KEY_SERVICE == OWN_MASTER_KEYS and len(settings.MASTER_KEY) < SHORTEST_SECRET:
        return failed(
            f"{len(settings.MASTER_KEY)} characters", f"Use {SHORTEST_SECRET} random characters or more."
        )
    if settings.MASTER_KEY_IS_GENERATED and not settings.EMBEDDED_POSTGRES:
        return warning("generated under DATA_DIR", "Set MASTER_KEY, the same for all machines; keep a copy.")
    return ok("all keys of tenants can be unwrapped")


def disk() -> Finding:
    place = next(
        path for path in (Path(settings.DATA_DIR), *Path(settings.DATA_DIR).parents) if path.exists()
    )
    free = shutil.disk_usage(place).free
    shown = f"{free / (1 << 30):.1f} GiB free at {place}"
    return (
        ok(shown)
        if free >= LEAST_FREE
        else warning(shown, "PostgreSQL stops when a disk is full: make room.")
    )


def shared_migrations() -> Finding:
    if migrations.shared_is_current():
        return ok("the shared tables are current")
    return failed("migrations are missing", "Run migrate_tenants.")


def tenant_migrations() -> Finding:
    _, late = migration.behind()
    if not late:
        return ok(f"{Tenant.objects.count()} tenants, none behind")
    return failed(
        f"behind: {', '.join(tenant.slug for tenant in late[:5])} ({len(late)})", "Run migrate_tenants."
    )


def births() -> Finding:
    stuck = list(Tenant.objects.filter(status=TenantStatus.FAILED).values_list("slug", flat=True))
    if not stuck:
        return ok("none failed")
    return warning(
        f"failed: {', '.join(stuck)}", "Retry it in the staff console; list_tenants shows the cause."
    )


def keys() -> Finding:
    platform = [key for key in ApiKey.objects.filter(tenant=None) if key.usable]
    endless = [key for key in platform if key.expires_at is None]
    if endless:
        return warning(
            f"{len(endless)} platform keys never expire", "Replace them: create_api_key --expires-in."
        )
    return ok(f"{len(platform)} platform keys in use, all of them expire")


def audit_log() -> Finding:
    used = set(AuditHead.objects.exclude(key="").values_list("key", flat=True).distinct())
    if unknown := used - set(audit_keys.known()):
        return failed(
            f"hashed with {', '.join(sorted(unknown))}, which is not here",
            "Give all processes the same AUDIT_SECRET, and AUDIT_OLD_SECRETS those before it.",
        )
    patience = timedelta(seconds=5 * settings.AUDIT_ANCHOR_EVERY)
    late = AuditHead.objects.filter(
        sequence__gt=F("anchored"), updated_at__lt=timezone.now() - patience
    ).count()
    if late:
        hint = "Is beat running, and can its workers write to AUDIT_ANCHOR_PATH?"
        return warning(f"{late} chains are not anchored", hint)
    return ok(f"{AuditHead.objects.count()} chains, all anchored in time; verify_audit_log reads them")


def providers() -> Finding:
    configured = {
        "openai": settings.OPENAI_API_KEY,
        "anthropic": settings.ANTHROPIC_API_KEY,
        "llama": settings.LLAMA_API_ENDPOINT,
    }
    names = [name for name, value in configured.items() if value]
    if names:
        return ok(f"configured: {', '.join(names)}, and the built-in local")
    wanting = ConfigurationVersion.objects.exclude(primary_model__in=["auto", "local"]).exists()
    hint = "Set OPENAI_API_KEY, ANTHROPIC_API_KEY or LLAMA_API_ENDPOINT."
    return warning("only the built-in local", hint) if wanting else ok("only the built-in local")


def embeddings() -> Finding:
    model = embedders.model()
    if model is None:
        return ok("the built-in model, which costs nothing")
    if not pricing.is_priced(model):
        hint = (
            "Set EMBEDDING_MODEL to one that has a price, or add the price in the console (Billing, Prices)."
        )
        return failed(f"{model} has no price, so it is not asked, and no document can be taken in", hint)
    if not config().is_configured(model.provider):
        return failed(f"no key and no endpoint is set for {model}", "Set those of its provider.")
    return ok(f"{model}")


CHECKS = (
    Check("secret key", secret_key),
    Check("master key", master_key),
    Check("disk", disk),
    Check("PostgreSQL", server_checks.postgres),
    Check("pgvector", server_checks.pgvector),
    Check("application login", server_checks.application_login),
    Check("shared migrations", shared_migrations),
    Check("tenants' migrations", tenant_migrations),
    Check("tenants' births", births),
    Check("platform keys", keys),
    Check("audit log", audit_log),
    Check("cache", lambda: server_checks.valkey(settings.CACHE_URL)),
    Check("channel layer", lambda: server_checks.valkey(settings.CHANNEL_LAYER_URL)),
    Check("event log", lambda: server_checks.valkey(settings.EVENT_LOG_URL)),
    Check("rate limits", lambda: server_checks.valkey(settings.RATE_LIMIT_URL)),
    Check("broker", server_checks.broker),
    Check("worker", server_checks.worker),
    Check("clock of PostgreSQL", server_checks.postgres_clock),
    Check("clock of Valkey", lambda: server_checks.valkey_clock(settings.EVENT_LOG_URL)),
    Check("providers", providers),
    Check("embeddings", embeddings),
)


__all__ = ["CHECKS", "Check", "Status"]
