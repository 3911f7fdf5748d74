"""A reply's events as text/event-stream."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator

from django.http import StreamingHttpResponse

from conversations.streaming.events import Event

KEEP_ALIVE = 15.0  # s
COMMENT = b": keep-alive\n\n"


def response(events: AsyncIterator[Event], headers: dict[str, str] | None = None) -> StreamingHttpResponse:
    """The stream of these events."""
    stream = _stream(events, contextvars.copy_context())
    answer = StreamingHttpResponse(stream, content_type="text/event-stream")
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["X-Accel-Buffering"] = "no"
    for name, value in (headers or {}).items():
        answer.headers[name] = value
    return answer


async def _stream(events: AsyncIterator[Event], context: contextvars.Context) -> AsyncIterator[bytes]:
    """Runs after the view has returned, so each step is given the view's context: the tenant."""
    create = asyncio.get_running_loop().create_task
    pending = create(_next(events), context=context)
    try:
        while True:
            done, _ = await asyncio.wait({pending}, timeout=KEEP_ALIVE)
            if not done:
                yield COMMENT
                continue
            event_or_end = pending.result()
            if event_or_end is None:
                return
            yield event_or_end.server_sent()
            pending = create(_next(events), context=context)
    finally:
        pending.cancel()
        await asyncio.gather(pending, return_exceptions=True)
        await create(_close(events), context=context)


async def _next(events: AsyncIterator[Event]) -> Event | None:
    return await anext(events, None)


async def _close(events: AsyncIterator[Event]) -> None:
    close = getattr(events, "aclose", None)
    if close:
        await close()
