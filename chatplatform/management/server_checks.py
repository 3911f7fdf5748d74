"""Checks of the servers it leans on: PostgreSQL, Valkey or Redis, broker, worker; and of their clocks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import redis
from django.conf import settings
from django.db import connection
from redis.backoff import NoBackoff
from redis.retry import Retry

from chatplatform.management.findings import Finding, failed, ok, warning

TIMEOUT = 2  # s
OLDEST_POSTGRES, REPORTING_POSTGRES = 160000, 180000
LARGEST_SKEW, NOTABLE_SKEW = 5.0, 1.0  # s


def postgres() -> Finding:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('server_version_num')::int, current_setting('server_version')")
        number, name = cursor.fetchone()
    if number < OLDEST_POSTGRES:
        return failed(f"version {name}", "Version 16 or newer is needed: older ones cannot keep roles apart.")
    if number < REPORTING_POSTGRES:
        return warning(
            f"version {name}", "From version 18 on, entering a tenant's context costs no extra round trip."
        )
    return ok(f"version {name}")


def pgvector() -> Finding:
    version = _value("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
    if version is None:
        return failed("not installed", "Install pgvector on the server, then run migrate_tenants.")
    return ok(f"version {version}")


def application_login() -> Finding:
    """The second fence: the login must be no superuser and own nothing."""
    login, is_super, owned = _row(
        """
        SELECT session_user, rolsuper OR rolbypassrls,
            (SELECT count(*) FROM pg_class WHERE relowner = pg_roles.oid)
        FROM pg_roles WHERE rolname = session_user
        """
    )
    hint = (
        "Give the application an own login in DATABASE_URL; the one that owns belongs in DATABASE_ADMIN_URL."
    )
    if is_super:
        return failed(f"{login} is a superuser: nothing keeps tenants apart in the database", hint)
    return failed(f"{login} owns {owned} tables or indexes", hint) if owned else ok(f"{login} owns nothing")


def valkey(url: str) -> Finding:
    with _client(url) as client:
        facts: dict[str, Any] = client.info()
    name = "Valkey" if "valkey_version" in facts else "Redis"
    shown = (
        f"{name} {facts.get('valkey_version') or facts['redis_version']}, {facts['used_memory_human']} in use"
    )
    if facts.get("loading"):
        return warning(f"{shown}, loading its data", "Wait; without persistence it starts at once.")
    return ok(shown)


def broker() -> Finding:
    from chatplatform.celery import app

    with app.connection_for_read() as wire:
        wire.ensure_connection(max_retries=1, timeout=TIMEOUT)
        name = wire.transport.driver_type
    if name == "redis" and _eviction_policy() not in (None, "noeviction"):
        return failed(
            f"evicts keys ({_eviction_policy()})", "Set maxmemory-policy noeviction: it drops queued work."
        )
    return ok(f"{name} answers")


def worker() -> Finding:
    from chatplatform.celery import app

    answers = app.control.ping(timeout=1.0)
    if not answers:
        return failed("no worker answers", "Start one: celery -A chatplatform worker")
    return ok(f"{len(answers)} answering")


def postgres_clock() -> Finding:
    return _skew(lambda: float(_value("SELECT extract(epoch FROM clock_timestamp())")))


def valkey_clock(url: str) -> Finding:
    def now() -> float:
        seconds, micros = client.time()
        return float(seconds) + float(micros) / 1e6

    with _client(url) as client:
        client.ping()
        return _skew(now)


def _skew(their_time: Callable[[], float]) -> Finding:
    """How far another machine's clock is from ours, less half of the time that asking took."""
    before = time.time()
    theirs = their_time()
    after = time.time()
    skew = theirs - (before + after) / 2
    shown = f"{abs(skew) * 1000:.0f} ms {'ahead' if skew > 0 else 'behind'}"
    hint = "Synchronise the clocks (NTP): leases and expiry dates compare them."
    if abs(skew) > LARGEST_SKEW:
        return failed(shown, hint)
    return warning(shown, hint) if abs(skew) > NOTABLE_SKEW else ok(shown)


def _eviction_policy() -> str | None:
    """The broker's policy, or None where the server does not tell."""
    url = settings.CELERY_BROKER_URL.replace("redis+socket://", "unix://", 1)
    try:
        with _client(url) as client:
            policy: dict[str, str] = client.config_get("maxmemory-policy")
    except redis.ResponseError:
        return None
    return policy.get("maxmemory-policy")


def _client(url: str) -> redis.Redis:
    client: redis.Redis = redis.Redis.from_url(
        url,
        socket_timeout=TIMEOUT,
        socket_connect_timeout=TIMEOUT,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )
    return client


def _row(query: str) -> tuple[Any, ...]:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return tuple(cursor.fetchone() or (None,))


def _value(query: str) -> Any:
    return _row(query)[0]
