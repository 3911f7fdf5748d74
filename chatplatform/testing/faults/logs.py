"""What the processes logged: errors and tracebacks that no outage explains."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

# What may be logged with a traceback or as an error while things break. Each has its reason; keep this short.
DATABASE_AWAY = (
    "couldn't get a connection|terminat|connection failed|connection is lost|closed the connection"
    "|shutting down|starting up|connection is bad"
)
EXPECTED: tuple[tuple[str, str], ...] = (
    (
        r"^channels_redis.pubsub: Unexpected exception in receive task: .* redis\.exceptions\.",
        "Valkey is away",
    ),
    (r"^celery.worker.consumer.consumer: consumer: Cannot connect to redis", "Valkey is away"),
    (r"^celery.worker.request: Couldn't ack .* redis\.exceptions\.\w+:", "Valkey went while the job ran"),
    (r"^celery.beat: Message Error: Couldn't apply scheduled task .* connecting to", "Valkey is away"),
    (r"^celery.beat: beat: Connection error: ", "Valkey is away"),
    # A reply's lease runs out, or was never had, and the reconciler sends the job again.
    (
        rf"^celery.app.trace: Task [\w.]+\[…\] raised unexpected: .*({DATABASE_AWAY})",
        "PostgreSQL is away",
    ),
    (rf"^chatplatform.pool: task_failed: .*OperationalError: .*({DATABASE_AWAY})", "PostgreSQL is away"),
    (r"^chatplatform.api: database_unavailable", "PostgreSQL is away"),
    (
        r"^django.request: (Bad Gateway|Service Unavailable|Gateway Timeout): ",
        "what the caller was answered, too",
    ),
)
ERROR = re.compile(r"[\w.]+(: |$)")
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
    """Log entries that tell of an error, and tracebacks that were just printed (chained ones count as one)."""
    printed: list[str] = []
    for line in [*lines, "{}"]:
        if not line.startswith("{"):
            if printed or line.startswith("Traceback (most recent call last)"):
                printed.append(line)
            continue
        if printed:
            last = max(number for number, text in enumerate(printed) if text and not text.startswith(" "))
            yield f"printed: {_short(printed[: last + 1])}"
            printed = []
        if (entry := _entry(line)) is not None:
            yield entry


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
    # What PostgreSQL says may take several lines.
    last = max((number for number, line in enumerate(trace) if ERROR.match(line)), default=-1)
    return f"{(ours or places or [''])[-1]} … {' '.join(line.strip() for line in trace[last:])}"
