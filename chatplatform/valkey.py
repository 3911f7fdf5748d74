"""Commands to Valkey from a thread, in one round trip.

What redis-py's own pipeline does takes several times as long, and here somebody waits for it.
"""

from __future__ import annotations

from typing import Any

from redis import Redis
from redis.exceptions import ResponseError


def answers(client: Redis, *packed: bytes) -> list[Any]:
    """What Valkey answers to commands (`hiredis.pack_command`), errors among them.

    Sent once: whoever hears nothing does not know what was done. Raises RedisError, or OSError, if Valkey is away.
    """
    pool: Any = client.connection_pool
    connection = pool.get_connection()
    try:
        connection.send_packed_command([b"".join(packed)])
        return [_answer(connection) for _ in packed]
    finally:
        pool.release(connection)


def _answer(connection: Any) -> Any:
    """One answer. A connection that breaks, or is left half-read, is closed."""
    try:
        return connection.read_response()
    except ResponseError as error:
        return error
