"""Prometheus metrics. Names and labels stand here and nowhere else; no label carries a tenant's text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    start_http_server,
    write_to_textfile,
)

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
ADMISSION = Histogram(
    "chatplatform_admission_seconds",
    "From a message's arrival at the service to its being stored: limits, hold, accept",
    buckets=[
        ms / 1000
        for ms in (1, 2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5, 6, 7, 8, 10, 15, 20, 30, 50, 100, 250, 500, 1000)
    ],
)
RATE_LIMITED = Counter("chatplatform_rate_limited", "Calls refused by a rate limit", ["level"])
RATE_UNCHECKED = Counter(
    "chatplatform_rate_limiter_unchecked", "Calls let through unchecked, because the rate limiter was away"
)
RATE_LIMITER = Histogram(
    "chatplatform_rate_limiter_seconds",
    "Time to ask the rate limiter",
    buckets=(0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
)
BUDGET_REFUSED = Counter("chatplatform_budget_refused", "Calls refused by a budget", ["level"])
BUDGET_THRESHOLDS = Counter(
    "chatplatform_budget_thresholds", "Tenants that reached 50, 80 or 100 % of a limit", ["limit", "percent"]
)
BUDGET_OVERRUNS = Counter("chatplatform_budget_overruns", "Attempts that took more than was held for them")
BUDGET_RETURNED = Counter("chatplatform_budget_holds_returned", "Holds of dead attempts that were given back")

# --- Calls to models. They are made in the workers. `model` is one of the first MOST_MODELS names, or "other".
MODEL = ["provider", "model"]
CALLS = Counter("chatplatform_provider_calls", "Calls to models, by how they ended", [*MODEL, "outcome"])
CALL_RETRIES = Counter("chatplatform_provider_retries", "Calls that were repeated after a failure", MODEL)
FIRST_TOKEN = Histogram(
    "chatplatform_provider_first_token_seconds",
    "From the call to its first text",
    MODEL,
    buckets=(0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60),
)
CALL_SECONDS = Histogram(
    "chatplatform_provider_call_seconds",
    "From the call to its end",
    MODEL,
    buckets=(0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300),
)
CIRCUIT = Gauge("chatplatform_circuit", "Circuit breakers: 0 closed, 1 half-open, 2 open", MODEL)
CIRCUITS_BLIND = Counter("chatplatform_circuit_store_failures", "Times that circuit breakers missed Valkey")
STREAMS = Gauge("chatplatform_provider_streams", "Calls under way in this process", ["provider"])
STREAMS_WAITING = Gauge(
    "chatplatform_provider_streams_waiting", "Replies that wait for a place at a provider", ["provider"]
)

# --- The ledger against a provider's own export (`manage.py reconcile_usage`): written to a file, not scraped.
RECONCILIATION = CollectorRegistry()
RECONCILED_OVER = Gauge(
    "chatplatform_reconciliation_over_bound",
    "Figures further apart than the bound",
    ["provider"],
    registry=RECONCILIATION,
)
RECONCILED_DIFFERENCE = Gauge(
    "chatplatform_reconciliation_difference_ratio",
    "Difference of the sums, as a share of the larger one",
    ["provider", "measure"],
    registry=RECONCILIATION,
)
MOST_MODELS = 200
_models: set[str] = set()

_refreshers: list[Callable[[], None]] = []


def before_scrape(refresh: Callable[[], None]) -> None:
    """Have a function set its gauges at each scrape."""
    _refreshers.append(refresh)


def exposition() -> tuple[bytes, str]:
    """The metrics of this process, and their content type."""
    for refresh in _refreshers:
        refresh()
    return generate_latest(REGISTRY), CONTENT_TYPE_LATEST


def serve(host: str, port: int) -> None:
    """Serve the metrics of this process, in a thread of its own. Raises OSError for a busy port."""
    start_http_server(port, host)


def write_reconciliation(path: Path) -> None:
    """Write what the last comparison came to, for the node exporter to serve."""
    write_to_textfile(str(path), RECONCILIATION)


def model_label(name: str) -> str:
    """A model's name as a label. Tenants choose names, so only so many get a time series of their own."""
    if name not in _models:
        if len(_models) >= MOST_MODELS:
            return "other"
        _models.add(name)
    return name
