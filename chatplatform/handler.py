"""Django's ASGI handler, without the threads that a request does not need.

Django starts a thread for each request only to look for old database connections there, and for its views that are not
asynchronous. Ours are, where it counts, and take their database work to `jobs.in_thread`.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from asgiref.sync import SyncToAsync, sync_to_async
from django.core.cache import close_caches
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, reset_queries
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import set_script_prefix

from chatplatform.api.problem import shutting_down

# A request's thread, if it gets one, is new: it has neither.
request_started.disconnect(reset_queries)
request_started.disconnect(close_old_connections)
# What is left of Django's own when a request has ended takes long where there is nothing to close: the cache keeps its
# connections, and the event loop's thread has none to a database (`_close` thinks of the others).
request_finished.disconnect(close_caches)
request_finished.disconnect(close_old_connections)


class Handler(ASGIHandler):
    """Answers HTTP requests; one whose client has gone is cancelled, and one that the server gives up (it is told to
    stop, and the database is away, say) is answered with `shutting_down`."""

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        with body:
            set_script_prefix(get_script_prefix(scope))
            await request_started.asend(sender=self.__class__, scope=scope)
            request, refusal = self.create_request(scope, body)
            if request is not None:
                await self._answer(request, receive, send)
            elif refusal is not None:
                await self.send_response(refusal, send)
                refusal.close()

    async def _answer(self, request: HttpRequest, receive: Any, send: Any) -> None:
        answering = asyncio.create_task(self._respond(request, send))
        watching = asyncio.create_task(_cancel_when_gone(receive, answering))
        try:
            await _close(await answering)
        except asyncio.CancelledError:
            if not watching.done():
                await _say_that_it_ends(send)
            # An event loop that ends cancels twice, and the server would take that for a failure.
            with contextlib.suppress(asyncio.CancelledError):
                await request_finished.asend(sender=self.__class__)
                if _has_thread():
                    await sync_to_async(close_old_connections)()
        finally:
            watching.cancel()

    async def _respond(self, request: HttpRequest, send: Any) -> HttpResponseBase:
        response: HttpResponseBase = await self.run_get_response(request)
        # A client that goes while it is sent does not matter here: it has to be closed all the same.
        with contextlib.suppress(asyncio.CancelledError):
            await self.send_response(response, send)
        return response


async def _cancel_when_gone(receive: Any, answering: asyncio.Task[Any]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    answering.cancel()


async def _say_that_it_ends(send: Any) -> None:
    """It may have been stored what was asked for: who asks again with the same key finds that out."""
    response = shutting_down().response()
    headers = [(name.lower().encode(), value.encode()) for name, value in response.items()]
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": response.content})


async def _close(response: HttpResponseBase) -> None:
    """Where the request had a thread, it is that thread's connections that are to be closed."""
    if _has_thread():
        await sync_to_async(_close_with_connections)(response)
    else:
        response.close()


def _has_thread() -> bool:
    return SyncToAsync.thread_sensitive_context.get(None) in SyncToAsync.context_to_thread_executor


def _close_with_connections(response: HttpResponseBase) -> None:
    response.close()
    close_old_connections()
