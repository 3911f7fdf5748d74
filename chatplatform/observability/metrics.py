"""Prometheus metrics. Names and labels stand here and nowhere else; no label carries a tenant's text."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Counter, Gauge, Histogram, generate_latest

REQUESTS = Histogram(
    "chatplatform_http_request_seconds",
    "Time to answer an HTTP request (to the first byte of a stream)",
    ["method", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
SOCKETS = Gauge("chatplatform_websockets", "WebSockets open in this process")
FRAMES_REFUSED = Counter(
    "chatplatform_websocket_frames_refused", "Frames that were answered with an error", ["code"]
)
WORK = Gauge("chatplatform_work", "Replies in the work table, of all tenants", ["state"])
WORK_AGE = Gauge("chatplatform_work_oldest_seconds", "Age of the oldest reply that waits or is generated")
RATE_LIMITED = Counter("chatplatform_rate_limited", "Calls refused by a rate limit", ["level"])
RATE_UNCHECKED = Counter(
    "chatplatform_rate_limiter_unchecked", "Calls let through unchecked, because the rate limiter was away"
)
RATE_LIMITER = Histogram(
    "chatplatform_rate_limiter_seconds",
    "Time to ask the rate limiter",
    buckets=(0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
)

_refreshers: list[Callable[[], None]] = []


def before_scrape(refresh: Callable[[], None]) -> None:
    """Have a function set its gauges at each scrape."""
    _refreshers.append(refresh)


def exposition() -> tuple[bytes, str]:
    """The metrics of this process, and their content type."""
    for refresh in _refreshers:
        refresh()
    return generate_latest(REGISTRY), CONTENT_TYPE_LATEST
