"""A database of these tests' own in the run's Valkey, empty at the start of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from redis import Redis

if TYPE_CHECKING:
    from chatplatform.embedded import Servers

DATABASE = 9


@pytest.fixture
def valkey_url(servers: Servers) -> str:
    return f"{servers.where.redis_url}?db={DATABASE}"


@pytest.fixture
def valkey(valkey_url: str) -> Iterator[Any]:
    with Redis.from_url(valkey_url, protocol=2) as client:
        client.flushdb()
        yield client
