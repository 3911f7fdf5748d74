"""Which web pages may act for a tenant: those of its own hosts, and those that it names as `widget_origins`."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.conf import settings

from tenants import selectors
from tenants.selectors import TenantState


def plain(origin: str) -> str:
    """An origin as it is compared."""
    return origin.lower().rstrip("/")


def is_allowed(origin: str, tenant: TenantState) -> bool:
    """Whether an `Origin` is one of the tenant's hosts, by https if the platform is, or one of its widget origins."""
    wanted = plain(origin)
    if wanted in {plain(allowed) for allowed in tenant.configuration.widget_origins}:
        return True
    # What a page that came without TLS says may be anybody's on the way.
    if settings.PUBLIC_SCHEME == "https" and not wanted.startswith("https://"):
        return False
    return _host_of(wanted) in selectors.hosts_of(tenant)


def _host_of(origin: str) -> str:
    try:
        return (urlsplit(origin).hostname or "").rstrip(".")
    except ValueError:  # "http://[" and the like
        return ""
