"""The tenant `demo` of `make run`: an invented shop, its handbook, and the keys to look around with."""

from __future__ import annotations

import io
import json
import secrets
from contextlib import suppress
from pathlib import Path

from django.apps import apps
from django.conf import settings
from django.core.management import CommandError, call_command, get_commands

from chatplatform import tenancy
from chatplatform.management.run_file import RunFile
from tenants.models import Tenant, User
from tenants.services import api_keys, provisioning
from tenants.vocabulary import Scope, TenantStatus, Tier

SLUG, NAME, STAFF = "demo", "Heron & Hill", "staff"
GREETING = (
    "Hello, and welcome to Heron & Hill! I know our handbook by heart: orders, delivery, returns, warranty, "
    "machines and beans. What would you like to know?"
)
SCOPES = (Scope.CHAT, Scope.KNOWLEDGE, Scope.CONFIG, Scope.BILLING_READ, Scope.ANALYTICS)
HANDBOOK = Path(settings.BASE_DIR) / "tenants" / "demo" / "handbook"
INGEST = "ingest_knowledge"


def ensure() -> dict[str, str]:
    """Make what is missing: `{tenant, api_key, staff_user, staff_password}`. Empty: run.json has it."""
    known = _remembered()
    tenant = _tenant()
    _ingest_handbook(tenant)
    return {
        "tenant": tenant.slug,
        "api_key": "" if _is_usable(known.get("api_key", "")) else _new_key(tenant),
        "staff_user": STAFF,
        "staff_password": _staff_password(bool(known.get("staff_password"))),
    }


def _remembered() -> dict[str, str]:
    try:
        found = json.loads(RunFile(settings.DATA_DIR).path.read_text())
    except (OSError, ValueError):
        return {}
    return {key: str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def _tenant() -> Tenant:
    tenant = Tenant.objects.filter(slug=SLUG).first()
    if tenant is None:
        tenant, key, _ = provisioning.request_tenant(
            NAME, SLUG, tier=Tier.PRO, configuration={"greeting": GREETING}
        )
        api_keys.revoke(key.public_id)  # nobody has seen it
    if tenant.status not in (TenantStatus.ACTIVE, TenantStatus.SUSPENDED):
        tenant = provisioning.provision(tenant.id)
    return tenant


def _ingest_handbook(tenant: Tenant) -> None:
    """Fewer good documents than pages: it is the first time, or that was cut short. The platform starts without them
    too: their embeddings may have no price, or their provider may be away. What failed is told on stderr."""
    pages = len(list(HANDBOOK.glob("*.md")))
    if not pages or INGEST not in get_commands():
        return
    with tenancy.in_tenant(tenant.ref):
        documents = apps.get_model("conversations", "Document")._default_manager
        stored = documents.filter(status="ready").count()
    if stored < pages:
        # stdout belongs to the result of the command that called this.
        with suppress(CommandError):
            call_command(INGEST, SLUG, str(HANDBOOK), stdout=io.StringIO())


def _is_usable(key: str) -> bool:
    parts = key.split("_")
    return len(parts) == 4 and api_keys.is_usable(parts[2])


def _new_key(tenant: Tenant) -> str:
    return api_keys.create(tenant, SCOPES, name="make run")[1]


def _staff_password(known: bool) -> str:
    """A new password for the superuser `staff`, or "" if there is one that run.json knows."""
    user = User.objects.filter(username=STAFF).first()
    if user is not None and known:
        return ""
    password = secrets.token_urlsafe(12)
    if user is None:
        User.objects.create_superuser(STAFF, password=password)
    else:
        user.set_password(password)
        user.save(update_fields=["password"])
    return password
