"""What is stored of a tenant, so that it shows whether somebody else has changed it; and who may read it at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import redis
from django.apps import apps
from django.conf import settings
from django.db import connection

from chatplatform import tenancy
from chatplatform.isolation import Planted
from chatplatform.postgres.models import uuid7
from chatplatform.tenancy import Home
from tenants import secrets
from tenants.fields import SealedTextField
from tenants.models import Tenant

# What changes by being used, and says nothing of anybody.
PASSING = {"last_used_at", "seen_at", "updated_at", "migrated_to"}
AT_ONCE = 500  # keys of Valkey that are read in one go
URLS = ("CACHE_URL", "CHANNEL_LAYER_URL", "EVENT_LOG_URL", "RATE_LIMIT_URL", "CELERY_BROKER_URL")


def state_of(tenant: Planted) -> dict[str, str]:
    """The tables of a tenant's schema and the shared tables that name it, each with a digest of its rows."""
    found = {}
    with tenancy.staff_view(tenant.ref), connection.cursor() as cursor:
        for table in _tables(tenant.ref.schema):
            cursor.execute(
                f"SELECT md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM {table} t"  # noqa: S608
            )
            found[table] = cursor.fetchone()[0]
    with tenancy.in_platform():
        for model in apps.get_models():
            named = [field for field in model._meta.concrete_fields if field.related_model is Tenant]
            if getattr(model, "home", None) is Home.SHARED and named:
                shown = [f.attname for f in model._meta.concrete_fields if f.attname not in PASSING]
                rows = model._default_manager.filter(**{named[0].attname: tenant.ref.id}).values_list(*shown)
                found[model._meta.db_table] = repr(sorted(map(repr, rows)))
    return found


def opened_by_others(field: SealedTextField, own: Planted, other: Planted) -> str | None:
    """What is wrong with how a column of texts is sealed. A tenant must not open what the other has stored, not even in
    the very row where it stands; what is in a shared table must not open in another row.
    """
    shared = getattr(field.model, "home", None) is Home.SHARED
    rows, strange = (_sealed(field, None if shared else one) for one in (own, other))
    if not rows:
        return "nothing was planted in it"
    if any(one.canary.encode() in stored for one in (own, other) for _, stored in rows + strange):
        return "is in the clear"
    with tenancy.in_platform() if shared else tenancy.in_tenant(own.ref):
        for row, stored in rows:
            field.opened(stored, row)
        for row, stored in [(uuid7(), stored) for _, stored in rows] if shared else strange:
            with suppress(secrets.UnknownKey, secrets.Tampered):
                field.opened(stored, row)
                return "can be opened where it does not belong"
    return None


def _sealed(field: SealedTextField, tenant: Planted | None) -> list[tuple[Any, bytes]]:
    """What is sealed in a column: the row's key, and what is stored."""
    with tenancy.in_tenant(tenant.ref) if tenant else tenancy.in_platform():
        found = field.model._default_manager.exclude(**{field.name: None}).values_list("pk", field.name)
        return [(row, bytes(stored)) for row, stored in found[:AT_ONCE] if secrets.sealed_with(stored)]


def foreign_rights(tenant: Planted) -> list[str]:
    """Tables outside its schema on which the tenant's role has any right."""
    from chatplatform.postgres import names

    role = names.tenant_role(connection.settings_dict["NAME"], tenant.ref.schema)
    with tenancy.in_platform(), connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
            WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND nspname <> %(own)s
              AND nspname NOT LIKE 'pg\\_%%' AND nspname <> 'information_schema'
              AND has_table_privilege(%(role)s, c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')
            """,
            {"own": tenant.ref.schema, "role": role},
        )
        return [str(name) for (name,) in cursor.fetchall()]


def _tables(schema: str) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT format('%%I.%%I', schemaname, tablename) FROM pg_tables WHERE schemaname = %s", [schema]
        )
        return [str(name) for (name,) in cursor.fetchall()]


# --- Valkey -----------------------------------------------------------------------------------------------------
def kept() -> Iterator[tuple[str, str]]:
    """Every key of every Valkey in use, with all that it holds, as text."""
    urls = (str(getattr(settings, name)).replace("redis+socket://", "unix://", 1) for name in URLS)
    for url in dict.fromkeys(urls):
        if url.startswith(("redis", "unix")):
            with redis.Redis.from_url(url) as client:
                yield from _of(client)


def _of(client: Any) -> Iterator[tuple[str, str]]:
    batch: list[bytes] = []
    for key in client.scan_iter("*", count=AT_ONCE):
        batch.append(key)
        if len(batch) == AT_ONCE:
            yield from _read(client, batch)
            batch = []
    yield from _read(client, batch)


def _read(client: Any, keys: list[bytes]) -> Iterator[tuple[str, str]]:
    if not keys:
        return
    asked = client.pipeline(transaction=False)
    for key in keys:
        asked.type(key)
    kinds = asked.execute()
    for key, kind in zip(keys, kinds, strict=True):
        READERS.get(kind, lambda pipe, name: pipe.exists(name))(asked, key)
    for key, value in zip(keys, asked.execute(raise_on_error=False), strict=True):
        yield key.decode(errors="replace"), _text(value)


READERS: dict[bytes, Any] = {
    b"string": lambda pipe, key: pipe.get(key),
    b"list": lambda pipe, key: pipe.lrange(key, 0, -1),
    b"set": lambda pipe, key: pipe.smembers(key),
    b"zset": lambda pipe, key: pipe.zrange(key, 0, -1),
    b"hash": lambda pipe, key: pipe.hgetall(key),
    b"stream": lambda pipe, key: pipe.xrange(key),
}


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else repr(value)
