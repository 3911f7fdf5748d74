"""WebSocket routes of conversations."""

from __future__ import annotations

from django.urls import path, re_path

from conversations.consumers import Conversation, NotFound

websocket_urlpatterns = [
    path("ws/<uuid:conversation_id>", Conversation.as_asgi()),
    re_path("", NotFound.as_asgi()),
]
