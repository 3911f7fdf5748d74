from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest
import redis
from redis.asyncio import Redis

if TYPE_CHECKING:
    from chatplatform.embedded import Servers


@pytest.fixture
def address(servers: Servers) -> Iterator[str]:
    """A Valkey without circuits."""
    with redis.Redis.from_url(servers.where.redis_url) as client:
        yield servers.where.redis_url
        for key in client.scan_iter("test:circuit*"):
            client.delete(key)


@pytest.fixture
async def valkey(address: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(address, socket_timeout=2) as client:
        yield client
