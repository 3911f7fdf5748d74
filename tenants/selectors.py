"""Reads about tenants that every request needs, kept for at most 5 seconds in each process.

Five seconds is the promise of the contract for suspensions, revocations and configuration changes; the control
bus (`tenants.control`) makes them visible at once where it can.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from threading import Lock
from typing import Any
from uuid import UUID

from cachetools import TTLCache
from django.conf import settings
from django.http.request import split_domain_port
from django.utils.asyncio import async_unsafe

from chatplatform import tenancy
from chatplatform.api.problem import Code, Problem
from chatplatform.kept import Kept
from chatplatform.postgres.prepared import Statement
from chatplatform.tenancy import TenantRef
from tenants.models import ConfigurationVersion, Domain, Tenant
from tenants.terms import Terms
from tenants.vocabulary import Feature, TenantStatus

FRESH_SECONDS = 4.0  # below the promise of 5 s, which includes the request that is under way
# Of a tenant's row, of the row of its plan, and its newest configuration: those are never changed.
MARK = """
    SELECT tenant.xmin, tenant.ctid, {terms},
        (SELECT max(number) FROM tenants_configurationversion WHERE tenant_id = tenant.id)
    FROM tenants_tenant AS tenant WHERE id = %(id)s
"""


@dataclass(frozen=True, slots=True)
class TenantState:
    """A tenant as a request sees it: who, whether it is served, the configuration in force and the plan's terms."""

    ref: TenantRef
    name: str
    tier: str
    status: str
    configuration: ConfigurationVersion
    terms: Terms
    encrypts: bool = True


_terms_of: Callable[[Tenant], Terms] | None = None
_terms_mark = "NULL"
_ids: TTLCache[str, UUID | None] = TTLCache(50_000, FRESH_SECONDS)
_lock = Lock()
UNKNOWN: Any = object()


def ask_for_terms(function: Callable[[Tenant], Terms], mark: str) -> None:
    """Ask this function, in the platform's context, what a tenant has bought. `mark` is SQL for a value that is another
    after each change of that, beside the tenant's row `tenant`. The billing app knows both.
    """
    global _terms_of, _terms_mark
    _terms_of, _terms_mark = function, mark


def forget(tenant_id: UUID | None = None) -> None:
    """Drop what is kept of a tenant, or of all."""
    with _lock:
        _ids.clear()
    _states.forget(tenant_id)


def cached_state(tenant_id: UUID) -> TenantState | None:
    """The state if it is kept; touches no database, so the event loop may ask."""
    return _states.get(tenant_id)


def cached_host(host: str) -> tuple[bool, UUID | None]:
    """Whether it is known what a host stands for, and the tenant's id if it stands for one."""
    with _lock:
        kept = _ids.get(host, UNKNOWN)  # one look: between two, the entry may expire
    return (False, None) if kept is UNKNOWN else (True, kept)


def state(tenant_id: UUID) -> TenantState:
    """The tenant's state. Raises Tenant.DoesNotExist."""
    if (kept := cached_state(tenant_id)) is not None:
        return kept
    return _read(tenant_id)


@async_unsafe  # an event loop learns that it may not ask before a query is made up for it
def _read(tenant_id: UUID) -> TenantState:
    with tenancy.in_platform():
        return _states.read(tenant_id)


def _mark(tenant_id: UUID) -> object:
    return _mark_statement().run({"id": tenant_id})


@cache
def _mark_statement() -> Statement:
    return Statement(MARK.format(terms=_terms_mark))


def _load(tenant_id: UUID) -> TenantState:
    tenant = Tenant.objects.get(id=tenant_id)
    configuration = ConfigurationVersion.objects.filter(tenant=tenant).order_by("-number").first()
    terms = _terms_of(tenant) if _terms_of else Terms(tier=tenant.tier)
    assert configuration is not None, "a tenant is created with its first configuration"
    return TenantState(
        tenant.ref, tenant.name, terms.tier, tenant.status, configuration, terms, tenant.encrypts
    )


_states: Kept[UUID, TenantState] = Kept(FRESH_SECONDS, 10_000, _mark, _load)


@lru_cache(256)
def host_name(raw: str) -> str:
    """The host of a Host header: without its port, lower-case, without a final dot."""
    return split_domain_port(raw.lower())[0].rstrip(".")


def tenant_id_for_host(host: str) -> UUID | None:
    """The tenant that a host name (without port) stands for: `<slug>.<PLATFORM_DOMAIN>` or a domain of its own."""
    known, tenant_id = cached_host(host)
    if known:
        return tenant_id
    label, _, parent = host.partition(".")
    with tenancy.in_platform():
        tenants = (
            Tenant.objects.filter(slug=label) if parent == settings.PLATFORM_DOMAIN else Tenant.objects.none()
        )
        row = tenants.values_list("id", flat=True).first()
        if row is None:
            row = Domain.objects.filter(domain=host).values_list("tenant_id", flat=True).first()
    with _lock:
        _ids[host] = row
    return row


def tenant_by_slug(slug: str) -> TenantState:
    """The tenant's state. Raises Tenant.DoesNotExist."""
    known, tenant_id = cached_host(f"slug:{slug}")
    if not known or tenant_id is None:
        with tenancy.in_platform():
            tenant_id = Tenant.objects.values_list("id", flat=True).get(slug=slug)
        with _lock:
            _ids[f"slug:{slug}"] = tenant_id
    return state(tenant_id)


def check_served(found: TenantState) -> None:
    """Raises Problem unless the tenant is active: suspended and not yet provisioned are 403."""
    if found.status == TenantStatus.SUSPENDED:
        raise Problem(Code.TENANT_SUSPENDED)
    if found.status != TenantStatus.ACTIVE:
        raise Problem(Code.NOT_ALLOWED, "This tenant is not active yet.")


def check_included(tenant_id: UUID, feature: Feature) -> None:
    """Raises Problem `not_allowed` where the tenant's plan does not include this. What is there already stays."""
    if not state(tenant_id).terms.includes(feature):
        raise Problem(Code.NOT_ALLOWED, f"This tenant's plan does not include {feature.label.lower()}.")


def hosts_of(found: TenantState) -> set[str]:
    """The host names that are this tenant's own."""
    with tenancy.in_platform():
        domains = Domain.objects.filter(tenant_id=found.ref.id).values_list("domain", flat=True)
        return {f"{found.ref.slug}.{settings.PLATFORM_DOMAIN}", *domains}


def page_url(slug: str) -> str:
    """Where a tenant's chat page is."""
    port = settings.PUBLIC_PORT
    shown = "" if port == {"http": 80, "https": 443}.get(settings.PUBLIC_SCHEME) else f":{port}"
    return f"{settings.PUBLIC_SCHEME}://{slug}.{settings.PLATFORM_DOMAIN}{shown}/"
