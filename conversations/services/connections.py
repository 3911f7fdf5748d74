"""At most so many WebSockets and event streams per end user and per tenant, counted over all processes (CONTRACT §6).

Each process knows its own counts and notes them in Valkey, and says every 2 s that it lives: the counts of one that
was killed are left out after `LIVES_FOR`. Valkey only helps: while it is away, a process goes by its own counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections import Counter
from pathlib import Path

import structlog
from django.conf import settings

from chatplatform import tenancy
from chatplatform.api.problem import Code, Problem
from conversations.streaming import event_log
from tenants.auth.principal import Principal

log = structlog.get_logger("conversations.connections")
SCRIPT = (Path(__file__).parent / "connections.lua").read_text()
PROCESSES = "cp:platform:web-processes"
EVERY, LIVES_FOR = 2.0, 7  # s
ALL_EVERY = 600.0  # s after which everything is noted again: it expires after an hour
AT_ONCE = 500  # counts noted in one round trip
BATCH = 0.05  # s in which departures are gathered
RETRY_AFTER = 10  # s

me = uuid.uuid4().hex
_counts: Counter[str] = Counter()
_stale: set[str] = set()  # what Valkey has not been told yet
_changed = asyncio.Event()


async def join(principal: Principal) -> tuple[str, ...]:
    """Count one more connection; what `leave` wants to have. Raises Problem 429 if there are too many."""
    assert principal.tenant is not None
    with tenancy.in_tenant(principal.tenant.ref):
        keys, limits = [tenancy.key("connections")], [settings.MAX_CONNECTIONS_PER_TENANT]
        if principal.contact_id is not None:
            keys.append(tenancy.key("connections", principal.contact_id))
            limits.append(settings.MAX_CONNECTIONS_PER_CONTACT)
    _counts.update(keys)  # before anything is waited for: others join at the same time
    try:
        full = await _full(keys, limits)
    except BaseException:
        leave(tuple(keys))
        raise
    if full is None:
        return tuple(keys)
    leave(tuple(keys))
    raise Problem(
        Code.RATE_LIMITED,
        "Too many connections are open.",
        headers={"Retry-After": str(RETRY_AFTER)},
        level=("tenant", "user")[full],
        limit=limits[full],
        retry_after=RETRY_AFTER,
    )


async def join_for_this_request(principal: Principal) -> None:
    """Count the request that this task answers as a connection, until the task is over. Raises as `join` does."""
    place = await join(principal)
    task = asyncio.current_task()
    assert task is not None
    task.add_done_callback(lambda _: leave(place))


def leave(place: tuple[str, ...]) -> None:
    """A connection is gone; the other processes hear of it in a moment."""
    _counts.subtract(place)
    _stale.update(place)
    _changed.set()


async def _full(keys: list[str], limits: list[int]) -> int | None:
    """Which of the keys has too many, if any, now that this process counts one more."""
    for number, (key, limit) in enumerate(zip(keys, limits, strict=True)):
        if _counts[key] > limit:
            return number
    pairs = [value for key, limit in zip(keys, limits, strict=True) for value in (_counts[key], limit)]
    script = event_log.client().register_script(SCRIPT)
    try:
        number = int(await script([PROCESSES, *keys], [me, LIVES_FOR, *pairs]))
    except event_log.RedisError:
        return None
    return number - 1 if number else None


async def keep_known() -> None:
    """Tell Valkey that this process lives, and what has changed. Runs for ever."""
    global _changed
    _changed = asyncio.Event()  # which is good in one event loop
    noted_all, task = time.monotonic(), asyncio.current_task()
    assert task is not None
    while (
        not task.cancelling()
    ):  # one that falls into a time-out of the client's is lost, and comes only once
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EVERY):
                await _changed.wait()
            await asyncio.sleep(BATCH)
        _changed.clear()
        if time.monotonic() - noted_all > ALL_EVERY:
            noted_all = time.monotonic()
            _stale.update(_counts)
        try:
            await _tell()
        except event_log.RedisError:
            _stale.update(_counts)  # it may come back empty
            await asyncio.sleep(EVERY)


async def _tell() -> None:
    changed = [_stale.pop() for _ in range(min(AT_ONCE, len(_stale)))]
    seconds, _ = await event_log.client().time()
    pipeline = event_log.client().pipeline(transaction=False)
    pipeline.zadd(PROCESSES, {me: seconds})
    pipeline.zremrangebyscore(PROCESSES, 0, seconds - LIVES_FOR)
    for key in changed:
        if _counts[key] > 0:
            pipeline.hset(key, me, str(_counts[key]))
            pipeline.expire(key, 3600)
        else:
            _counts.pop(key, None)
            pipeline.hdel(key, me)
    try:
        await pipeline.execute()
    except event_log.RedisError:
        _stale.update(changed)
        raise
    if _stale:
        _changed.set()
