"""Waiting for the keys of a token's issuer: in a thread that a request has anyway, or in the event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenants.services.key_sets import WAIT, KeysAwaited

T = TypeVar("T")


def with_keys(check: Callable[[], T]) -> T:
    """What `check` answers, once it has the keys that it asks for. Holds this thread meanwhile."""
    try:
        return check()
    except KeysAwaited as awaited:
        with contextlib.suppress(concurrent.futures.TimeoutError):
            awaited.fetched.result(WAIT)
    return check()


async def with_keys_async(check: Callable[[], Awaitable[T]]) -> T:
    """The same in the event loop: no thread is held."""
    try:
        return await check()
    except KeysAwaited as awaited:
        with contextlib.suppress(TimeoutError):
            # Shielded: others wait for the same fetch.
            await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(awaited.fetched)), WAIT)
    return await check()
