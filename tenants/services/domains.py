"""The host names of a tenant's own."""

from __future__ import annotations

import ipaddress
import re
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction

from chatplatform import tenancy
from chatplatform.api.problem import invalid
from chatplatform.tenancy import TenantRef
from tenants import audit, control, selectors
from tenants.models import Domain
from tenants.vocabulary import AuditAction, Feature

LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
HOST = re.compile(rf"{LABEL}(?:\.{LABEL})+")
LONGEST = 253


def checked(host: str) -> str:
    """The host name itself if a tenant may have it. Raises Problem (field `domain`), saying what is wrong."""
    if why := _objection(host):
        raise invalid("domain", why)
    return host


def add(tenant: TenantRef, host: str) -> Domain:
    """Let the tenant answer at a host name, everywhere within 5 seconds.

    Raises Problem: `not_allowed` where its plan includes no domains of its own, or what is wrong (field `domain`).
    """
    selectors.check_included(tenant.id, Feature.CUSTOM_DOMAINS)
    try:
        with tenancy.in_platform(), transaction.atomic():
            domain = Domain.objects.create(tenant_id=tenant.id, domain=checked(host), is_primary=False)
            audit.record(AuditAction.DOMAIN_ADDED, domain.id, tenant=tenant.id, domain=host)
    except IntegrityError as error:
        raise invalid("domain", f"{host} belongs to a tenant already.") from error
    control.tenant_changed(tenant.id)
    return domain


def remove(tenant: TenantRef, domain_id: UUID) -> Domain:
    """Stop answering at a host name, everywhere within 5 seconds. Raises Domain.DoesNotExist."""
    with tenancy.in_platform(), transaction.atomic():
        domain = Domain.objects.get(id=domain_id, tenant_id=tenant.id)
        Domain.objects.filter(id=domain.id).delete()
        audit.record(AuditAction.DOMAIN_REMOVED, domain.id, tenant=tenant.id, domain=domain.domain)
    control.tenant_changed(tenant.id)
    return domain


def _objection(host: str) -> str | None:
    """Why a tenant cannot have this host name, or None."""
    objections = [
        ("://" in host or "/" in host, "A host name alone, without https:// and without a path."),
        ("*" in host, "One host name, without a wildcard."),
        (_is_address(host), "A host name, not an address: certificates and tenants go by names."),
        (":" in host, "A host name alone, without a port."),
        (host != host.lower(), "Lower-case letters only."),
        (_is_platforms(host), f"{settings.PLATFORM_DOMAIN} and all below it belong to the platform."),
        (not HOST.fullmatch(host) or len(host) > LONGEST, "A host name such as chat.example.com."),
    ]
    return next((why for wrong, why in objections if wrong), None)


def _is_platforms(host: str) -> bool:
    # A name below the platform's is some tenant's slug, if not today's then tomorrow's.
    return host == settings.PLATFORM_DOMAIN or host.endswith("." + settings.PLATFORM_DOMAIN)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
