"""A Valkey of these tests' own, empty at the start of each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis

from chatplatform import embedded


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with embedded.ensure(tmp_path_factory.mktemp("valkey"), ["valkey"]) as servers:
        yield servers.where.redis_url


@pytest.fixture
def valkey(valkey_url: str) -> Iterator[Redis]:
    with Redis.from_url(valkey_url, protocol=2) as client:
        client.flushall()
        yield client
