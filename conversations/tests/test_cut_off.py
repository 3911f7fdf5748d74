"""A socket that its server cuts off."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from chatplatform import draining
from conversations.consumers import Refusing


class Busy(Refusing):
    """At work on a frame, for ever."""

    async def websocket_receive(self, message: dict[str, Any]) -> None:
        self.scope["began"].set()
        await asyncio.Event().wait()


async def cut_off() -> asyncio.Task[None]:
    async def receive() -> dict[str, Any]:
        return {"type": "websocket.receive", "text": "{}"}

    scope = {"type": "websocket", "began": asyncio.Event()}
    serving = asyncio.create_task(Busy()(scope, receive, None))
    await scope["began"].wait()  # type: ignore[attr-defined]
    serving.cancel("timeout graceful shutdown exceeded")
    await asyncio.wait([serving])
    return serving


async def test_at_the_end_of_the_servers_grace_it_just_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draining, "is_leaving", lambda: True)
    serving = await cut_off()
    assert not serving.cancelled() and serving.exception() is None


async def test_otherwise_it_was_cancelled() -> None:
    assert (await cut_off()).cancelled()
