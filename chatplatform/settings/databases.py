"""Django's DATABASES out of two URLs: the application's login and the installer's."""

from __future__ import annotations

from typing import Any

from psycopg.conninfo import conninfo_to_dict

ENGINE = "chatplatform.postgres"


def from_url(url: str, *, fence: str, pool: dict[str, Any] | None = None) -> dict[str, Any]:
    """One entry of DATABASES. `url` is anything libpq takes (`postgresql://…`, sockets included)."""
    parts: dict[str, Any] = {
        key: str(value) for key, value in conninfo_to_dict(url).items() if value is not None
    }
    options: dict[str, Any] = {
        "fence": fence,
        # The server's own time zone must not show: every connection speaks UTC without another round trip.
        "options": " ".join(filter(None, [parts.pop("options", ""), "-c TimeZone=UTC"])),
    }
    if pool:
        options["pool"] = pool
    return {
        "ENGINE": ENGINE,
        "NAME": parts.pop("dbname", "chatplatform"),
        "USER": parts.pop("user", ""),
        "PASSWORD": parts.pop("password", ""),
        "HOST": parts.pop("host", ""),
        "PORT": parts.pop("port", ""),
        "CONN_MAX_AGE": 0,
        # After a restart of PostgreSQL the pool would hand out dead connections.
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {**parts, **options},
    }
