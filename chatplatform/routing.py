"""WebSocket routes."""

from __future__ import annotations

from channels.routing import URLRouter

from conversations.routing import websocket_urlpatterns

websockets = URLRouter(websocket_urlpatterns)
