"""Django's DATABASES out of two URLs: the application's login and the installer's."""

from __future__ import annotations

from typing import Any

from psycopg.conninfo import conninfo_to_dict

# A host that vanishes without a word (failover, partition) is given up after 10 s, not after the kernel's 15 minutes.
# Over a Unix socket these mean nothing.
GIVE_UP = {
    "connect_timeout": "5",
    "tcp_user_timeout": "10000",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
}
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
        # Not the pool's default of 300: its pauses grow, and the longest is spent after PostgreSQL has come back.
        # After this many seconds it gives the connection up, and the next request tries at once.
        options["pool"] = {"reconnect_timeout": 1, **pool}
    return {
        "ENGINE": ENGINE,
        "NAME": parts.pop("dbname", "chatplatform"),
        "USER": parts.pop("user", ""),
        "PASSWORD": parts.pop("password", ""),
        "HOST": parts.pop("host", ""),
        "PORT": parts.pop("port", ""),
        "CONN_MAX_AGE": 0,
        "OPTIONS": {**GIVE_UP, **parts, **options},
    }
