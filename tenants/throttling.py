"""The question that admission asks: may this call pass? And what a client is told about it.

The limiter is a convenience, not the truth: if its server is away or slow, calls pass unchecked, the outage is logged
once and every such call is counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import TypeVar
from uuid import UUID

import structlog
from django.conf import settings
from redis import BlockingConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from chatplatform.api.problem import Code, Problem
from chatplatform.observability.metrics import RATE_LIMITED, RATE_LIMITER, RATE_UNCHECKED
from chatplatform.ratelimit import Decision, Level, Limiter, Refusal, Standing, Unavailable, Unit
from chatplatform.ratelimit.limiter import MINUTE
from chatplatform.resilience.availability import Availability
from tenants import limits
from tenants.selectors import TenantState
from tenants.vocabulary import LimitLevel

log = structlog.get_logger("tenants.throttling")
T = TypeVar("T")
CONNECTIONS = 64
LARGEST_IN_HEADER = 10**15 - 1  # a structured field's integer has at most 15 digits
OWNERS = {LimitLevel.USER: "Your", LimitLevel.TENANT: "This tenant's", LimitLevel.GLOBAL: "The platform's"}


def admit(state: TenantState, contact: UUID | None, call: UUID, tokens: int) -> Decision:
    """Let a call pass at every level, or refuse it without a trace. For a thread: a busy event loop would take its
    own delays for an outage.

    `call` is the id that the reply will have, `tokens` what it is held to take; `correct` puts that right later.
    Raises Problem `rate_limited`.
    """
    counted = limits.levels(state, contact)
    if not counted:
        return Decision()
    has_tokens = any(level.tokens is not None for level in counted)
    key = limits.call_key(state.ref, call) if has_tokens else None
    decision = _ask(lambda limiter: limiter.admit(counted, tokens=tokens, call=key))
    if decision is None:
        RATE_UNCHECKED.inc()
        return Decision(checked=False)
    if decision.refusal:
        RATE_LIMITED.labels(decision.refusal.level).inc()
        raise problem(decision, decision.refusal)
    return decision


def counts(state: TenantState, contact: UUID | None) -> bool:
    """Whether there is anything for `admit` to ask."""
    return bool(limits.levels(state, contact))


def correct(state: TenantState, call: UUID, tokens: int) -> None:
    """Say how many tokens a call has taken, or is held to take by now, in all. Any number of times; never fails.

    Too late, or for a call that was not counted, it changes nothing.
    """
    if counted := _counting_tokens(state):
        _ask(lambda limiter: limiter.correct(counted, limits.call_key(state.ref, call), tokens))


def counts_tokens(state: TenantState) -> bool:
    """Whether there is anything for `correct` to do."""
    return bool(_counting_tokens(state))


def _counting_tokens(state: TenantState) -> list[Level]:
    return [level for level in limits.levels(state) if level.tokens is not None]


def remaining(state: TenantState) -> int | None:
    """Requests that the tenant has left in this minute, or None without a limit. Consumes nothing."""
    limit = limits.of_tenant(state).requests
    if limit is None:
        return None
    decision = _ask(lambda limiter: limiter.look(limits.levels(state))) or Decision()
    found = [one.remaining for one in decision.standings if _is(one, LimitLevel.TENANT, Unit.REQUESTS)]
    return found[0] if found else limit


# --- What a client is told -----------------------------------------------------------------------------------------
def problem(decision: Decision, refusal: Refusal) -> Problem:
    """The refusal as a client sees it (CONTRACT §7). Without a `retry_after` the call would never pass."""
    wait = None if refusal.retry_after is None else math.ceil(refusal.retry_after * 1000) / 1000
    unit = refusal.unit.removesuffix("s") if refusal.limit == 1 else refusal.unit
    what = f"{OWNERS[LimitLevel(refusal.level)]} limit is {refusal.limit:,} {unit} a minute"
    again = "one such message takes more" if wait is None else f"try again in {math.ceil(wait)} s"
    told = headers(decision)
    if wait is not None:
        told["Retry-After"] = str(max(math.ceil(wait), 1))
    more = {"level": str(refusal.level), "limit": refusal.limit, "retry_after": wait}
    return Problem(Code.RATE_LIMITED, f"{what}; {again}.", headers=told, **more)


def headers(decision: Decision) -> dict[str, str]:
    """`RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-11) for a passed or a refused call.

    The platform's own limits are no client's business until one of them refuses. A refusal tells only how its own
    limit stands: `Retry-After` must not be earlier than any `t` beside it.
    """
    refusal = decision.refusal
    shown = [one for one in decision.standings if one.level != LimitLevel.GLOBAL or _refused(one, refusal)]
    if not shown:
        return {}
    standing = [one for one in shown if refusal is None or _refused(one, refusal)]
    return {
        "RateLimit-Policy": ", ".join(map(_policy, shown)),
        "RateLimit": ", ".join(map(_standing, standing)),
    }


def _policy(one: Standing) -> str:
    unit = ';qu="tokens"' if one.unit is Unit.TOKENS else ""
    return f'"{_name(one)}";q={min(one.limit, LARGEST_IN_HEADER)}{unit};w={MINUTE:.0f}'


def _standing(one: Standing) -> str:
    left = min(one.remaining, LARGEST_IN_HEADER)
    return f'"{_name(one)}";r={left};t={math.ceil(one.resets_in)}'


def _name(one: Standing) -> str:
    return f"{one.level}-tokens" if one.unit is Unit.TOKENS else str(one.level)


def _refused(one: Standing, refusal: Refusal | None) -> bool:
    return refusal is not None and _is(one, refusal.level, refusal.unit)


def _is(one: Standing, level: str, unit: Unit) -> bool:
    return one.level == level and one.unit is unit


# --- The limiter of this process -----------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Node:
    """The one server that has all levels, and whether it is there."""

    limiter: Limiter
    availability: Availability = field(default_factory=Availability)


@cache
def _node(url: str, timeout: float) -> Node:
    """`timeout`: seconds that it has to answer; who would wait for longer passes unchecked."""
    pool = BlockingConnectionPool.from_url(
        url,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        # For a free connection: who waits there shows that this process is busy, not that the limiter is away.
        timeout=10 * timeout,
        max_connections=CONNECTIONS,
        protocol=2,  # spares a new connection one round trip
        # A call whose answer was lost may have been counted: asking again would count it twice.
        retry=Retry(NoBackoff(), 0),
    )
    return Node(Limiter(Redis.from_pool(pool)))


def _ask(question: Callable[[Limiter], T]) -> T | None:
    """What the limiter says; None if it is away."""
    node = _node(settings.RATE_LIMIT_URL, settings.RATE_LIMIT_TIMEOUT)
    if not node.availability.may_try():
        return None
    try:
        with RATE_LIMITER.time():
            answer = question(node.limiter)
    except Unavailable as error:
        if node.availability.failed():
            log.warning("rate_limiter_away", error=type(error).__name__)
        return None
    if node.availability.answered():
        log.warning("rate_limiter_back")
    return answer
