"""What the processes logged: errors and tracebacks that no outage explains."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

# What may be logged with a traceback or as an error while things break. Each has its reason; keep this short.
EXPECTED: tuple[tuple[str, str], ...] = (
    (
        r"^channels_redis.pubsub: Unexpected exception in receive task: .* redis\.exceptions\.",
        "Valkey is away",
    ),
    (r"^celery.worker.consumer.consumer: consumer: Cannot connect to redis", "Valkey is away"),
    (r"^celery.worker.request: Couldn't ack .* redis\.exceptions\.\w+:", "Valkey went while the job ran"),
    (r"^celery.beat: Message Error: Couldn't apply scheduled task .* connecting to", "Valkey is away"),
    (
        r"^celery.app.trace: Task conversations\.\w+\[…\] raised unexpected: .*(couldn't get a connection|terminat|"
        r"connection (failed|is lost)|closed the connection|shutting down|starting up)",
        "PostgreSQL is away",
    ),
    (r"^chatplatform.api: database_unavailable", "PostgreSQL is away"),
    (
        r"^django.request: (Bad Gateway|Service Unavailable|Gateway Timeout): ",
        "what the caller was answered, too",
    ),
)
NAMES = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|/\S*/sockets/|0x[0-9a-f]+")


def troubles(log: Path) -> list[str]:
    """Unexpected entries, each once, with how often it came and the end of its traceback."""
    found: dict[str, int] = {}
    for entry in _entries(log.read_text(errors="replace").splitlines()):
        entry = NAMES.sub("…", entry)
        if not any(re.search(pattern, entry, re.DOTALL) for pattern, _ in EXPECTED):
            found[entry] = found.get(entry, 0) + 1
    return [f"{times} × {entry}" for entry, times in found.items()]


def _entries(lines: list[str]) -> Iterator[str]:
    """Log entries that tell of an error, and tracebacks that were just printed."""
    printed: list[str] = []
    for line in lines:
        if line.startswith("{"):
            if (entry := _entry(line)) is not None:
                yield entry
        elif line.startswith("Traceback (most recent call last)"):
            printed = [line]
        elif printed:
            printed.append(line)
            if line and not line.startswith((" ", "Traceback", "During", "The above")):
                yield f"printed: {_short(printed)}"
                printed = []


def _entry(line: str) -> str | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    trace = str(entry.get("exception", ""))
    if not trace and entry.get("level") not in ("error", "critical"):
        return None
    return f"{entry.get('logger')}: {entry.get('event')}" + (
        f": {_short(trace.splitlines())}" if trace else ""
    )


def _short(trace: list[str]) -> str:
    """Where it happened in our code or, failing that, at all; and what."""
    places = [line.strip() for line in trace if line.lstrip().startswith("File ")]
    ours = [place for place in places if "site-packages" not in place and "lib/python" not in place]
    return f"{(ours or places or [''])[-1]} … {trace[-1].strip()}"
