"""The control bus: tells every process at once that something it keeps has changed.

Messages go over the channel layer, few and small. They are hints: a process that misses one (Valkey was down)
finds out by itself when what it kept expires, within 5 seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any
from uuid import UUID

import structlog
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer

log = structlog.get_logger("tenants.control")
GROUP = "platform.control"
PAUSE = 1.0  # s between two tries to listen
_handlers: dict[str, list[Callable[[dict[str, Any]], None]]] = {}


def on(kind: str, handler: Callable[[dict[str, Any]], None]) -> None:
    """Call `handler(message)` in this process whenever a message of this kind is published anywhere."""
    _handlers.setdefault(kind, []).append(handler)


def tenant_changed(tenant_id: UUID) -> None:
    """A tenant's status, domains or configuration changed."""
    publish("tenant_changed", tenant_id=str(tenant_id))


def key_changed(public_id: str) -> None:
    """An API key must not be accepted any more, or not for as long."""
    publish("key_changed", public_id=public_id)


def signing_keys_changed() -> None:
    """Another key signs the platform's tokens, or one is not good any more."""
    publish("signing_keys_changed")


def publish(kind: str, **data: Any) -> None:
    """Tell this process, then all others; never fails and never waits long. For synchronous code."""
    message = {"type": "control", "kind": kind, **data}
    handle(message)
    with contextlib.suppress(Exception):
        async_to_sync(_send)(message)


async def _send(message: dict[str, Any]) -> None:
    layer = get_channel_layer()
    try:
        await asyncio.wait_for(layer.group_send(GROUP, message), 1.0)
    except Exception as error:
        log.warning("control_message_lost", kind=message["kind"], error=type(error).__name__)


def handle(message: dict[str, Any]) -> None:
    """Run this process's handlers for one message; one that raises does not stop the others."""
    for handler in _handlers.get(message["kind"], ()):
        try:
            handler(message)
        except Exception:
            log.exception("control_handler_failed", kind=message["kind"])


async def listen() -> None:
    """Receive for ever; one such task runs in each ASGI and worker process."""
    while True:
        try:
            layer = get_channel_layer()
            channel = await layer.new_channel("control")
            await layer.group_add(GROUP, channel)
            while True:
                handle(await layer.receive(channel))
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.warning("control_bus_down", error=type(error).__name__)
            await asyncio.sleep(PAUSE)
