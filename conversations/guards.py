"""What stands between a reply and a provider: places, circuits, pauses and the deadline, as this installation sets
them. Bulkheads and circuits belong to an event loop; the circuits of all processes are one, in Valkey.
"""

from __future__ import annotations

import asyncio
import time
from weakref import WeakKeyDictionary

import structlog
from cachetools import LRUCache
from django.conf import settings
from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError

from chatplatform import jobs, tenancy
from chatplatform.llm.types import ModelRef
from chatplatform.observability import metrics
from chatplatform.resilience.bulkhead import Bulkhead
from chatplatform.resilience.circuit_breaker import BreakerPolicy, CircuitBreaker, CircuitState
from chatplatform.resilience.deadline import Deadline
from chatplatform.resilience.retry import RetryPolicy

log = structlog.get_logger("conversations.guards")
MOST_CIRCUITS = 1000  # per process; tenants choose the names of models
COMPLAIN_EVERY = 30.0  # s
SHOWN = {CircuitState.CLOSED: 0, CircuitState.HALF_OPEN: 1, CircuitState.OPEN: 2}


class _Guards:
    """Those of one event loop."""

    def __init__(self) -> None:
        self.bulkheads: dict[str, Bulkhead] = {}
        self.circuits: LRUCache[ModelRef, CircuitBreaker] = LRUCache(MOST_CIRCUITS)
        pool = BlockingConnectionPool.from_url(
            settings.RATE_LIMIT_URL, socket_timeout=1, socket_connect_timeout=1, max_connections=4, timeout=1
        )
        self.redis = Redis.from_pool(pool)


_of_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, _Guards] = WeakKeyDictionary()
_complained_at = -COMPLAIN_EVERY


def deadline() -> Deadline:
    """The deadline of an attempt that begins now."""
    return Deadline.after(settings.TOTAL_TIMEOUT)


def retries() -> RetryPolicy:
    """When to call the same model again."""
    return RetryPolicy(
        tries=settings.PROVIDER_TRIES, base=settings.PROVIDER_RETRY_PAUSE, patience=settings.PROVIDER_PATIENCE
    )


def bulkhead(provider: str) -> Bulkhead:
    """The places at a provider, in this event loop."""
    bulkheads = _guards().bulkheads
    if provider not in bulkheads:
        made = Bulkhead(settings.PROVIDER_STREAMS, settings.PROVIDER_STREAMS_PER_TENANT)
        metrics.STREAMS.labels(provider).set_function(lambda: made.taken)
        metrics.STREAMS_WAITING.labels(provider).set_function(lambda: made.waiting)
        bulkheads[provider] = made
    return bulkheads[provider]


def circuit(model: ModelRef) -> CircuitBreaker:
    """The circuit of a model. It is the platform's, whichever tenant asks: one failure is news for all."""
    circuits = _guards().circuits
    if (found := circuits.get(model)) is None:
        with tenancy.in_platform():
            key = tenancy.key("circuit", model.provider, model.name)
        gauge = metrics.CIRCUIT.labels(model.provider, metrics.model_label(model.name))
        found = circuits[model] = CircuitBreaker(
            _guards().redis,
            key,
            _breaker_policy(),
            on_state=lambda state: _note(model, state),
            on_away=_complain,
        )
        gauge.set(SHOWN[found.state])
    return found


def _guards() -> _Guards:
    loop = asyncio.get_running_loop()
    if loop not in _of_loop:
        _of_loop[loop] = _Guards()
    return _of_loop[loop]


def _breaker_policy() -> BreakerPolicy:
    return BreakerPolicy(
        window=settings.BREAKER_WINDOW,
        least_calls=settings.BREAKER_LEAST_CALLS,
        failure_rate=settings.BREAKER_FAILURE_RATE,
        open_for=settings.BREAKER_OPEN_SECONDS,
        probes=settings.BREAKER_PROBES,
        probe_for=settings.FIRST_TOKEN_TIMEOUT + settings.PROVIDER_QUEUE_TIMEOUT,
    )


def _note(model: ModelRef, state: CircuitState) -> None:
    log.warning("circuit", provider=model.provider, model=model.name, state=str(state))
    metrics.CIRCUIT.labels(model.provider, metrics.model_label(model.name)).set(SHOWN[state])


def _complain(error: RedisError) -> None:
    global _complained_at
    metrics.CIRCUITS_BLIND.inc()
    if time.monotonic() - _complained_at >= COMPLAIN_EVERY:
        _complained_at = time.monotonic()
        log.warning("circuits_let_everything_through", error=type(error).__name__)


async def _serve_metrics() -> None:
    """Calls are counted where they are made, in the workers."""
    if settings.WORKER_METRICS_PORT:
        try:
            metrics.serve(settings.HOST, settings.WORKER_METRICS_PORT)
        except OSError as error:
            log.error("worker_metrics_not_served", port=settings.WORKER_METRICS_PORT, error=error.strerror)


jobs.on_loop_start(_serve_metrics)
