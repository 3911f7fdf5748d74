"""Takes the event logs of replies away, for good: an attempt that still runs can write nothing more. Whoever reads in
their conversations is told that there is nothing more to come."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from conversations.streaming import event_log, events
from conversations.streaming.announcement import client

HIGHEST = 2_000_000_000  # above any attempt, also one that is over
AT_ONCE = 1000


def erase_logs(conversations: Iterable[UUID], replies: Iterable[UUID]) -> None:
    """Delete what Valkey has of these replies of the current tenant, then tell the readers. Raises RedisError."""
    wanted = list(replies)
    for start in range(0, len(wanted), AT_ONCE):
        pipeline: Any = client().pipeline(transaction=False)
        for reply in wanted[start : start + AT_ONCE]:
            to = event_log.address("", reply)
            pipeline.set(to.fence, HIGHEST, ex=event_log.KEEP_RUNNING)
            pipeline.delete(to.log)
        pipeline.execute()
    telling: Any = client().pipeline(transaction=False)
    for conversation in conversations:
        telling.publish(event_log.channel(conversation), f"- 0-0 {events.ERASED} {{}}")
    telling.execute()
