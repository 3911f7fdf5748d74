"""Key sets (JWKS) at addresses of tenants: fetched beside the requests, kept in each process, fetched again in time.

A key server that is slow or away must cost nobody else a thread. So a fetch runs in one of a few threads of its own;
who needs its keys gets `KeysAwaited`, waits in the way that suits it (`tenants.auth.awaiting`), and asks again.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from threading import Lock
from urllib.parse import urlsplit
from uuid import UUID

import structlog
from cachetools import LRUCache
from django.conf import settings

from chatplatform import outbound
from chatplatform.api.problem import Code, Problem
from tenants.services import public_keys
from tenants.services.public_keys import NotAKey, PublicKey

log = structlog.get_logger("tenants.key_sets")
FETCHES = 4  # at once, in one process
FRESH = 300.0  # s that a key set is used without another look
GOOD_FOR = 3600.0  # s that it is used while its server does not answer
APART = 10.0  # s between two fetches of one key set that tokens with unknown keys cause; doubled with each failure
WAIT = 5.0  # s that a request waits for a fetch


class NoKeys(Problem):
    """There are no keys to check a token with, for the time being."""

    def __init__(self) -> None:
        super().__init__(
            Code.NOT_AUTHENTICATED,
            "The keys of the token's issuer cannot be fetched at the moment.",
            headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
        )


class KeysAwaited(NoKeys):
    """The keys are being fetched: wait for `fetched`, and ask again."""

    def __init__(self, fetched: Future[None]) -> None:
        super().__init__()
        self.fetched = fetched


@dataclass(slots=True)
class _KeySet:
    keys: tuple[PublicKey, ...] = ()
    fetched_at: float = float("-inf")  # monotonic s, as all times here
    tried_at: float = float("-inf")
    failures: int = 0  # in a row
    fetching: Future[None] | None = None


_kept: LRUCache[tuple[UUID, str], _KeySet] = LRUCache(2000)
_lock = Lock()


def keys(owner: UUID, url: str, kid: str | None) -> tuple[PublicKey, ...]:
    """The keys at an address, among them the one of this id, if there is one. Raises NoKeys, KeysAwaited."""
    now = time.monotonic()
    with _lock:
        found = _kept.setdefault((owner, url), _KeySet())
        known = found.keys if now - found.fetched_at < GOOD_FOR else ()
        has_it = any(kid is None or key.kid in (None, kid) for key in known)
        is_old = now - found.fetched_at > FRESH
        may_try = now - found.tried_at > min(APART * 2**found.failures, FRESH)
        if (is_old or not has_it) and found.fetching is None and may_try:
            found.tried_at = now
            found.fetching = _executor().submit(_fetch, found, url, for_a_name=not is_old)
        if not has_it and found.fetching is not None:
            raise KeysAwaited(found.fetching)
    if not known:
        raise NoKeys
    return known


def read(url: str) -> tuple[PublicKey, ...]:
    """The usable keys at an address, now. Raises FetchFailed, or NotAKey if it is no key set."""
    body = outbound.fetch(url, allow_private=settings.ALLOW_PRIVATE_KEY_SERVERS)
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise NotAKey("What is there is not JSON.") from error
    return public_keys.usable_in(document)


def forget() -> None:
    """Drop all that is kept."""
    with _lock:
        _kept.clear()


def _fetch(found: _KeySet, url: str, *, for_a_name: bool) -> None:
    try:
        new = read(url)
    except (outbound.FetchFailed, NotAKey) as error:
        new = None
        log.warning("key_set_not_fetched", host=urlsplit(url).hostname, error=str(error))
    except Exception:
        new = None
        log.exception("key_set_not_fetched", host=urlsplit(url).hostname)
    with _lock:
        found.fetching = None
        if new is None:
            found.failures = min(found.failures + 1, 10)
        else:
            found.keys, found.fetched_at, found.failures = new, time.monotonic(), 0
            if not for_a_name:  # the first token with a new key need not wait
                found.tried_at = float("-inf")


@cache
def _executor() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(FETCHES, thread_name_prefix="key-sets")
