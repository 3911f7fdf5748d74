"""A client over WebSocket: one socket at a time, with `resume` for what it has not seen the end of."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection

from chatplatform.testing.faults.history import Said, View
from chatplatform.testing.faults.visitors import Visitor

ACCEPTED_WITHIN = 4.0  # s after which a message is sent again
LINGER = 1.5  # s that it stays after its last turn: an end that comes twice would come now


class Talker(Visitor):
    """Sends a message again, with its client_id, until it is accepted."""

    kind = "ws"
    said: Said | None = None
    cancel_at: int | None = None  # words after which the reply under way is to stop
    finished = False

    async def chat(self) -> None:
        self.views: dict[str, View] = {}
        while not self.finished:
            self.here: dict[str, View] = {}  # what this socket is about
            try:
                async with websockets.connect(
                    f"ws://127.0.0.1:{self.around.port}/ws/{self.conversation}",
                    additional_headers=self.headers,
                    max_size=None,
                    open_timeout=6,
                    close_timeout=1,
                    ping_interval=2,
                    ping_timeout=4,
                ) as socket:
                    await self._sit(socket)
                    if (close := socket.protocol.close_rcvd) is not None:
                        self.note("close", close.code, None)
            except websockets.InvalidStatus as refused:
                status = refused.response.status_code
                self.note("handshake", status, {"code": "database_unavailable"} if status == 503 else {})
            except (OSError, TimeoutError, websockets.WebSocketException):
                pass
            await self.pause(0.4)

    async def _sit(self, socket: ClientConnection) -> None:
        talking = asyncio.create_task(self._talk(socket))
        hearing = asyncio.create_task(self._hear(socket))
        try:
            await asyncio.wait({talking, hearing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (talking, hearing):
                task.cancel()
            done = await asyncio.gather(talking, hearing, return_exceptions=True)
        for error in done:
            if isinstance(error, Exception) and not isinstance(error, websockets.ConnectionClosed):
                raise error

    # --- What it says ------------------------------------------------------------------------------------------
    async def _talk(self, socket: ClientConnection) -> None:
        self.here |= {reply_id: view for reply_id, view in self.views.items() if not view.ended}
        for reply_id, view in self.here.copy().items():
            view.sit(view.cursor)
            await self._send(socket, type="resume", reply_id=reply_id, after=view.cursor)
        while not self.finished:
            if self.said is None:
                await self._next(socket)
            elif not self.said.replies:
                await self._say(socket, self.said)
            else:
                await self._read(socket, self.views[next(iter(self.said.replies))])

    async def _say(self, socket: ClientConnection, said: Said) -> None:
        self.doing = f"asking {said.content!r}"
        frame = {"content": said.content, "client_id": said.key, "use_cache": False}
        await self._send(socket, type="message", **frame)
        await self.until(lambda: bool(said.replies), ACCEPTED_WITHIN)

    async def _next(self, socket: ClientConnection) -> None:
        if self.around.stop.is_set():
            await asyncio.sleep(LINGER)
            self.finished = True
            return
        await self.pause(0.8)
        self.said = self.next_message()
        self.cancel_at = self.random.randint(0, 30) if self.random.random() < 0.2 else None

    async def _read(self, socket: ClientConnection, view: View) -> None:
        self.doing = f"reading {view.reply_id}"
        if self.cancel_at is not None:
            words = self.cancel_at
            await self.until(lambda: view.ended or len(view.text.split()) >= words)
            if not view.ended:
                await self._send(socket, type="cancel", reply_id=view.reply_id)
        await self.until(lambda: view.ended)
        self.said = None

    async def _send(self, socket: ClientConnection, **frame: Any) -> None:
        await socket.send(json.dumps(frame))

    # --- What it hears -----------------------------------------------------------------------------------------
    async def _hear(self, socket: ClientConnection) -> None:
        async for text in socket:
            frame = json.loads(text)
            if frame["type"] == "reconnect":
                await asyncio.sleep(frame["after_ms"] / 1000)
                return
            if frame["type"] == "error":
                self.note("frame", frame["error"]["status"], frame["error"])
                await self.pause(0.5)
                return  # whatever it was about: come back, and ask again
            if frame["type"] == "message":
                self._check_message(frame["message"])
            else:
                self._take(frame)
            self.changed.set()

    def _check_message(self, message: dict[str, Any]) -> None:
        if self.name not in message["content"].split():
            self.around.evidence.strangers.append(f"{self.name} was sent {message}")

    def _take(self, frame: dict[str, Any]) -> None:
        reply_id = frame["reply_id"]
        view = self.here.get(reply_id) or self._new_here(reply_id)
        view.take(frame["type"], frame["cursor"], frame)
        if frame["type"] == "accepted" and self.said and frame.get("client_id") == self.said.key:
            if not self.said.replies:
                self.maybe_lurk(reply_id)
            self.said.replies.add(reply_id)

    def _new_here(self, reply_id: str) -> View:
        if reply_id in self.views:
            # It has seen the end already, and this socket was told without being asked: ignored, but looked at.
            view = self.view(reply_id, f"{self.name} (unasked)")
            view.to_the_end = False
        else:
            view = self.views[reply_id] = self.view(reply_id)
        self.here[reply_id] = view
        view.sit()
        return view
