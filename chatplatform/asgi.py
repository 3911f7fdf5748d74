"""The ASGI application: HTTP by Django, WebSockets by Channels, under Daphne or uvicorn alike."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatplatform.settings")

import django

django.setup(set_prefix=False)

from chatplatform.background import Background
from chatplatform.handler import Handler
from chatplatform.routing import websockets

SERVED = {"http": Handler(), "websocket": websockets}


async def route(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """By protocol; a server's lifespan calls are not needed and refused, as ASGI allows."""
    if scope["type"] not in SERVED:
        raise ValueError(f"{scope['type']} is not served here")
    await SERVED[scope["type"]](scope, receive, send)


application = Background(route)
