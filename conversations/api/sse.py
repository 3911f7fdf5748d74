"""A reply's events as text/event-stream."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator

from django.http import StreamingHttpResponse

from conversations import sockets
from conversations.streaming.events import Event
from tenants.auth.principal import Principal

KEEP_ALIVE = 15.0  # s
COMMENT = b": keep-alive\n\n"


class Stream:
    """A stream that is being sent, as the watch over what is open sees it."""

    def __init__(self, principal: Principal, first: asyncio.Task[Event | None]) -> None:
        self.principal, self.pending, self.closed = principal, first, False

    async def close(self, code: int) -> None:
        """End it: the client comes again, and is told why it may not."""
        self.closed = True
        self.pending.cancel()


def response(
    events: AsyncIterator[Event], principal: Principal, headers: dict[str, str] | None = None
) -> StreamingHttpResponse:
    """The stream of these events, as long as the principal is good."""
    stream = _stream(events, principal, contextvars.copy_context())
    answer = StreamingHttpResponse(stream, content_type="text/event-stream")
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["X-Accel-Buffering"] = "no"
    for name, value in (headers or {}).items():
        answer.headers[name] = value
    return answer


async def _stream(
    events: AsyncIterator[Event], principal: Principal, context: contextvars.Context
) -> AsyncIterator[bytes]:
    """Runs after the view has returned, so each step is given the view's context: the tenant."""
    create = asyncio.get_running_loop().create_task
    stream = Stream(principal, create(_next(events), context=context))
    sockets.streams.add(stream)
    try:
        while not stream.closed:
            done, _ = await asyncio.wait({stream.pending}, timeout=KEEP_ALIVE)
            if not done:
                yield COMMENT
                continue
            event_or_end = None if stream.pending.cancelled() else stream.pending.result()
            if event_or_end is None:
                return
            yield event_or_end.server_sent()
            stream.pending = create(_next(events), context=context)
    finally:
        sockets.streams.discard(stream)
        stream.pending.cancel()
        await asyncio.gather(stream.pending, return_exceptions=True)
        await create(_close(events), context=context)


async def _next(events: AsyncIterator[Event]) -> Event | None:
    return await anext(events, None)


async def _close(events: AsyncIterator[Event]) -> None:
    close = getattr(events, "aclose", None)
    if close:
        await close()
