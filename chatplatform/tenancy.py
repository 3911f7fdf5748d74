"""Which tenant this code is looking at.

One ContextVar, three context managers, and nothing is ever assumed: code that runs outside all three has no
database, no cache and no stream. A ContextVar follows threads started by `sync_to_async`, tasks of the event
loop and nested calls, which a tenant kept on a database connection does not.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from urllib.parse import quote
from uuid import UUID

PLAIN = re.compile(r"[A-Za-z0-9_.~-]*")  # what is not escaped


class NoTenant(RuntimeError):
    """Something touched tenant-scoped state (a query, a key) while no tenant and no platform was entered."""


class Home(enum.StrEnum):
    """Where a model's table lives: once for the platform, or once in every tenant's schema."""

    SHARED = "shared"
    TENANT = "tenant"


class View(enum.StrEnum):
    """Through whose eyes the database is seen."""

    TENANT = "tenant"
    PLATFORM = "platform"
    STAFF = "staff"


@dataclass(frozen=True, slots=True)
class TenantRef:
    """What it takes to enter a tenant; plain data, safe to keep and to send.

    `database` is the shard key: the alias of the database that holds the tenant's schema.
    """

    id: UUID
    slug: str
    schema: str
    database: str = "default"


@dataclass(frozen=True, slots=True)
class Scope:
    """The current context: a view, and the tenant unless it is the platform's."""

    view: View
    tenant: TenantRef | None = None


_scope: ContextVar[Scope | None] = ContextVar("chatplatform_scope", default=None)


def current_scope() -> Scope:
    """The context in force. Raises NoTenant if there is none."""
    scope = _scope.get()
    if scope is None:
        raise NoTenant("No tenant is set here: enter in_tenant(), in_platform() or staff_view() first.")
    return scope


def scope_or_none() -> Scope | None:
    """The context in force, or None: for logs and other code that must work anywhere."""
    return _scope.get()


def current_tenant() -> TenantRef:
    """The tenant in force. Raises NoTenant outside one."""
    tenant = current_scope().tenant
    if tenant is None:
        raise NoTenant("The platform is set here, not a tenant: enter in_tenant() first.")
    return tenant


def in_tenant(tenant: TenantRef) -> AbstractContextManager[Scope]:
    """Act as one tenant: its role, its schema, its keys, and nothing else."""
    return _entered(Scope(View.TENANT, tenant))


def in_platform() -> AbstractContextManager[Scope]:
    """Act as the control plane: shared tables only. Must be asked for, never a default."""
    return _entered(Scope(View.PLATFORM))


def staff_view(tenant: TenantRef) -> AbstractContextManager[Scope]:
    """Look into a tenant as staff: shared tables and the tenant's own. The admin's alone; each look is logged."""
    return _entered(Scope(View.STAFF, tenant))


@contextmanager
def _entered(scope: Scope) -> Iterator[Scope]:
    token = _scope.set(scope)
    try:
        yield scope
    finally:
        _scope.reset(token)


def key(*parts: object) -> str:
    """A key for caches, streams and locks, with the tenant in it: `cp:<tenant id>:<part>:<part>…`.

    Parts are escaped, so that ("a:b", "c") and ("a", "b:c") stay two keys. The platform's own keys carry
    `platform` where the tenant would be. Raises NoTenant outside any context.
    """
    scope = current_scope()
    owner = scope.tenant.id if scope.tenant else "platform"
    return ":".join(["cp", str(owner), *map(_escaped, map(str, parts))])


def _escaped(part: str) -> str:
    return part if PLAIN.fullmatch(part) else quote(part, safe="")


def cache_key(name: str, prefix: str, version: int) -> str:
    """Django's cache KEY_FUNCTION: the tenant is part of every cache key."""
    return key("cache", prefix, version, name)
