"""`/livez` and `/readyz` (CONTRACT §8)."""

from __future__ import annotations

import asyncio
from typing import Any

from asgiref.sync import sync_to_async
from celery import current_app
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse, JsonResponse

from chatplatform import draining, tenancy
from chatplatform.jobs import IMPATIENT, SEND_WITHIN
from chatplatform.observability.metrics import exposition
from chatplatform.postgres import migrations
from tenants import keyring

_current = False  # neither migrations on disk nor keys go away while a process runs; once well, always well


async def livez(request: HttpRequest) -> JsonResponse:
    """The process is alive; touches nothing."""
    return JsonResponse({"status": "ok"})


async def readyz(request: HttpRequest) -> JsonResponse:
    """200 when PostgreSQL answers, is migrated, and its keys can be unwrapped. Valkey and broker are reported, not
    required: messages are accepted without them.
    """
    if draining.is_leaving():
        return JsonResponse({"status": "shutting_down"}, status=503)
    looks = (sync_to_async(look, thread_sensitive=False)() for look in (_database, _valkey, _broker))
    database, valkey, broker = await asyncio.gather(*looks)
    ready = database == "ok"
    status = "unavailable" if not ready else "ok" if valkey == broker == "ok" else "degraded"
    body = {"status": status, "database": database, "valkey": valkey, "broker": broker}
    return JsonResponse(body, status=200 if ready else 503)


def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus' exposition of this process."""
    body, content_type = exposition()
    return HttpResponse(body, content_type=content_type)


def _database() -> str:
    global _current
    from django.db import connection

    try:
        with tenancy.in_platform(), connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        if not _current and not migrations.shared_is_current():
            return "migrations are missing"
        if not _current and keyring.missing():
            return "the master key is missing, or another one"
        _current = True
        return "ok"
    except Exception:
        return "unavailable"
    finally:
        connection.close()


def _valkey() -> str:
    try:
        with tenancy.in_platform():
            client: Any = cache.client.get_client()  # type: ignore[attr-defined]
            client.ping()
        return "ok"
    except Exception:
        return "degraded"


def _broker() -> str:
    try:
        with current_app.connection_for_read(
            transport_options=IMPATIENT, connect_timeout=SEND_WITHIN
        ) as connection:
            connection.default_channel  # noqa: B018 - to have one, the broker must have answered
        return "ok"
    except Exception:
        return "degraded"
