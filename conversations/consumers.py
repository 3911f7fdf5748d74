"""Conversations over WebSocket (CONTRACT §6).

A socket is an edge: it parses frames, calls a service, and passes on what the event log says. While there is
something to send, one task sends it, in order; replays are queued between the live events, so nothing is lost or
doubled in between. The task waits while the client does not read or acknowledge: what comes meanwhile is in the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import time
import uuid
from collections import OrderedDict
from dataclasses import replace
from typing import Any
from uuid import UUID

import orjson
import structlog
from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer

from chatplatform import draining, jobs, tenancy
from chatplatform.api.problem import Code, Problem, as_problem, invalid
from chatplatform.observability.metrics import FRAMES_REFUSED, SOCKETS
from conversations import sockets
from conversations.services import access, connections, handshake, turns
from conversations.services.turns import Options
from conversations.streaming import events, reader
from conversations.streaming.events import Event
from conversations.streaming.hub import Item, Leave, Resume, Subscription, hub
from conversations.streaming.reader import Cursor
from conversations.streaming.window import Window
from tenants.auth.principal import Principal

log = structlog.get_logger("conversations.socket")
# Daphne refuses 1011, which would say that something failed here; what the client is to do is the same.
MALFORMED, GONE_FOR_GOOD, TOO_MANY, RESTARTING = 4400, 4404, 4429, 4503
# Characters: 100,000 bytes of text, each escaped as \uXXXX, and the rest of the frame.
LARGEST_FRAME = 700_000
BURST, PER_SECOND = 200, 40  # frames a socket may send at once, and go on sending
GRACE = 2.0  # s that a client has to resume a reply before this socket replays it unasked
FOLLOWED = 8  # replies whose cursors are kept
GONE = RuntimeError, OSError  # what servers raise at whoever writes to a socket that is closed
BAD_FRAMES = 20  # frames that are no JSON object before the socket is closed


class Refusing(AsyncWebsocketConsumer):  # type: ignore[misc]
    """Can refuse a handshake with an HTTP status, where the server knows how."""

    channel_layer_alias = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        # The base class keeps a task beside each socket, and hops through a thread at every frame to clean up
        # database connections; neither is needed here.
        self.scope, self.base_send = scope, send
        try:
            while True:
                message = await receive()
                await getattr(self, message["type"].replace(".", "_"))(message)
        except StopConsumer:
            pass
        except asyncio.CancelledError:
            if not draining.is_leaving():
                raise
            # The server's grace is over, and it would report an error of ours. What the client has said it says again.

    async def refuse(self, problem: Problem) -> None:
        if "websocket.http.response" in self.scope.get("extensions", {}):
            headers = [(b"content-type", b"application/problem+json")]
            headers += [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
            await self.base_send(
                {"type": "websocket.http.response.start", "status": problem.code.status, "headers": headers}
            )
            await self.base_send(
                {"type": "websocket.http.response.body", "body": orjson.dumps(problem.body())}
            )
        else:  # a server that cannot say why before the handshake
            await self.accept()
            await self.close(4000 + problem.code.status)
        raise StopConsumer


class NotFound(Refusing):
    """Any other path."""

    async def connect(self) -> None:
        await self.refuse(Problem(Code.NOT_FOUND))


class Conversation(Refusing):
    """One socket of one conversation."""

    conversation_id: UUID
    principal: Principal
    place: tuple[str, ...] = ()
    subscription: Subscription | None = None
    sender: asyncio.Task[None] | None = None
    # Monotonic s; 0 while it does not send, or wait for an acknowledgement.
    sending_since = waiting_since = 0.0
    # What the sender waits for while the client has too much to acknowledge.
    room: asyncio.Event | None = None
    closing = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:  # not in `disconnect`, which is not called if anything fails before
            await self._clean_up()

    async def connect(self) -> None:
        self.conversation_id = self.scope["url_route"]["kwargs"]["conversation_id"]
        try:
            self.principal = await handshake.admit(self.scope, self.conversation_id)
            self.place = await connections.join(self.principal)
        except Exception as error:
            await self.refuse(as_problem(error))
        assert self.principal.tenant is not None
        self.tenant = self.principal.tenant.ref
        self.identity = uuid.uuid4().hex
        self.cursors: OrderedDict[str, Cursor] = OrderedDict()
        self.windows: dict[str, Window] = {}
        self.joined = self.heard_at = time.monotonic()
        self.allowance, self.allowed_at, self.bad_frames = float(BURST), self.joined, 0
        with tenancy.in_tenant(self.tenant):
            self.context = contextvars.copy_context()
            self.channel_name_of_events, self.subscription = await hub().subscribe(
                self.conversation_id, self._wake
            )
        await self.accept()
        sockets.opened.add(self)
        SOCKETS.inc()
        if self.subscription.waiting:  # since before there was anybody to tell
            self._wake()

    async def close(self, code: int | None = None, reason: str | None = None) -> None:
        """Close the socket, once; later frames are not looked at."""
        if not self.closing:
            self.closing = True
            if self.sender is not None and self.sender is not asyncio.current_task():
                self.sender.cancel()
            with contextlib.suppress(*GONE):
                await super().close(code, reason)

    async def _clean_up(self) -> None:
        connections.leave(self.place)
        if self in sockets.opened:
            sockets.opened.discard(self)
            SOCKETS.dec()
        self.closing = True
        if self.sender is not None:
            self.sender.cancel()
        if self.subscription is not None:
            hub().leave(self.channel_name_of_events, self.subscription)

    # --- Frames from the client ------------------------------------------------------------------------------
    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if self.closing:
            return
        if not self._within_allowance():
            await self.close(TOO_MANY)
            return
        client_id = None
        try:
            frame = self._parsed(text_data)
            client_id = frame.get("client_id") if isinstance(frame.get("client_id"), str) else None
            handle = FRAMES.get(frame["type"]) if isinstance(frame.get("type"), str) else None
            if handle is None:
                raise invalid("type", f"One of {', '.join(FRAMES)}.")
            with tenancy.in_tenant(self.tenant):
                await handle(self, frame)
        except Exception as error:
            await self._say_refused(as_problem(error), client_id)

    def _within_allowance(self) -> bool:
        now = time.monotonic()
        self.allowance = min(BURST, self.allowance + (now - self.allowed_at) * PER_SECOND) - 1
        self.allowed_at = now
        return self.allowance >= 0

    def _parsed(self, text: str | None) -> dict[str, Any]:
        if text is None:
            raise Problem(Code.MALFORMED, "Frames are JSON text, not binary.")
        if len(text) > LARGEST_FRAME:
            raise Problem(Code.TOO_LARGE, "The frame is too large.")
        try:
            frame = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise Problem(Code.MALFORMED, f"The frame is not JSON: {error}") from error
        if not isinstance(frame, dict):
            raise Problem(Code.MALFORMED, "A frame is a JSON object.")
        return frame

    async def _say_refused(self, problem: Problem, client_id: str | None) -> None:
        named = {} if client_id is None else {"client_id": client_id[:128]}
        FRAMES_REFUSED.labels(str(problem.code)).inc()
        await self._send_json({"type": "error", **named, "error": problem.body()})
        if problem.code is Code.MALFORMED:
            self.bad_frames += 1
            if self.bad_frames >= BAD_FRAMES:
                await self.close(MALFORMED)

    async def _message(self, frame: dict[str, Any]) -> None:
        handshake.check_not_leaving()
        client_id, use_cache = frame.get("client_id"), frame.get("use_cache", True)
        if not isinstance(client_id, str) or not 0 < len(client_id) <= 128:
            raise invalid("client_id", "Text of 1 to 128 characters.")
        if "\0" in client_id:
            raise invalid("client_id", "Must not hold NUL characters.")
        if not isinstance(use_cache, bool):
            raise invalid("use_cache", "Must be true or false.")
        accepted = await turns.accept_here(
            self.principal,
            self.conversation_id,
            frame.get("content"),
            options=Options(use_cache=use_cache),
            client_id=client_id,
            origin=self.identity,
        )
        reply_id = str(accepted.reply_id)
        if accepted.repeated and reply_id in self.cursors:
            reached = self.cursors[reply_id].value or events.ACCEPTED_CURSOR
            await self._send_text(replace(accepted.event, cursor=reached).frame())
        else:
            # Through the log, where `accepted` is the first event; or from PostgreSQL if there is no log.
            self._push(Resume(reply_id, unless_known=True, accepted=accepted.event))

    async def _resume(self, frame: dict[str, Any]) -> None:
        after = frame.get("after")
        if after is not None and not isinstance(after, str):
            raise invalid("after", "A cursor.")
        try:
            events.position(after or "0-0")
        except ValueError as error:
            raise invalid("after", str(error)) from error
        reply_id = await self._own_reply(frame)
        self.windows.pop(reply_id, None)  # who asks for more has room for it
        self._make_room()
        self._push(Resume(reply_id, after or ""))

    async def _cancel(self, frame: dict[str, Any]) -> None:
        reply_id = await self._own_reply(frame)
        await jobs.in_thread(lambda: turns.cancel(self._reply(UUID(reply_id))))

    async def _ack(self, frame: dict[str, Any]) -> None:
        reply_id, cursor = frame.get("reply_id"), frame.get("cursor")
        if not isinstance(reply_id, str) or not isinstance(cursor, str):
            raise invalid("cursor", "An ack has a reply_id and a cursor.")
        window = self.windows.get(reply_id)
        if window is not None:
            try:
                window.acknowledge(cursor)
            except ValueError as error:
                raise invalid("cursor", str(error)) from error
            self._make_room()

    async def _own_reply(self, frame: dict[str, Any]) -> str:
        try:
            reply_id = UUID(frame.get("reply_id"))
        except (ValueError, TypeError, AttributeError) as error:
            raise invalid("reply_id", "The id of a reply.") from error
        return str((await jobs.in_thread(self._reply, reply_id)).pk)

    def _reply(self, reply_id: UUID) -> Any:
        return access.access_reply(access.access_conversation(self.principal, self.conversation_id), reply_id)

    # --- Frames to the client --------------------------------------------------------------------------------
    def _push(self, item: Resume | None) -> None:
        if self.subscription is not None:
            self.subscription.push(item)

    def _wake(self) -> None:
        """Something is to be sent: begin, unless somebody is at it."""
        if self.sender is None and self in sockets.opened and not self.closing:
            self.sender = asyncio.get_running_loop().create_task(self._send_all(), context=self.context)

    def look_if_silent(self, now: float) -> None:
        """Valkey may be away: have a look at replies that should have gone on."""
        if now - self.heard_at > reader.SILENCE and any(not cursor.ended for cursor in self.cursors.values()):
            self.heard_at = now
            self._push(None)

    async def _send_all(self) -> None:
        subscription = self.subscription
        assert subscription is not None
        try:
            while subscription.waiting:
                await self._send_item(subscription.take())
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("socket_sender_failed")
            await self.close(RESTARTING)
        finally:
            self.sender, self.heard_at = None, time.monotonic()
            self.sending_since = self.waiting_since = 0.0

    async def _send_item(self, item: Item) -> None:
        if isinstance(item, Resume):
            await self._replay(item)
        elif isinstance(item, Leave):
            await self._send_json({"type": "reconnect", "after_ms": item.after_ms})
        elif item is None:
            for cursor in [cursor for cursor in self.cursors.values() if not cursor.ended]:
                await self._send_events(await reader.replay(cursor))
        elif item.kind == "message":
            await self._pass_on(item)
        elif item.kind == events.ERASED:
            await self.close(GONE_FOR_GOOD)
        elif item.kind == "accepted" or item.reply_id in self.cursors:
            await self._live(item)
        else:
            # A reply that began before this socket: its client most likely is about to resume it.
            wait = max(0.0, GRACE - (time.monotonic() - self.joined))
            wish = Resume(item.reply_id, unless_known=True)
            asyncio.get_running_loop().call_later(wait, self._push, wish)

    async def _live(self, event: Event) -> None:
        cursor = self._cursor(event.reply_id)
        if cursor.behind:
            await self._send_events(await reader.replay(cursor))
        elif cursor.passes(event):
            await self._send_event(event)

    async def _replay(self, wish: Resume) -> None:
        if wish.unless_known and wish.reply_id in self.cursors:
            return
        cursor = self._cursor(wish.reply_id)
        cursor.value, cursor.ended = wish.after, False
        await self._send_events(events.with_accepted(await reader.replay(cursor), wish.accepted))

    async def _pass_on(self, event: Event) -> None:
        data = orjson.loads(event.data)
        if data["origin"] != self.identity:
            await self._send_json({"type": "message", "message": data["message"]})

    def _cursor(self, reply_id: str) -> Cursor:
        cursor = self.cursors.setdefault(reply_id, Cursor(reply_id))
        self.cursors.move_to_end(reply_id)
        while len(self.cursors) > FOLLOWED:
            self.windows.pop(self.cursors.popitem(last=False)[0], None)
        return cursor

    async def _send_events(self, found: list[Event]) -> None:
        for event in found:
            await self._send_event(event)

    async def _send_event(self, event: Event) -> None:
        window = self.windows.get(event.reply_id)
        if window is None:
            window = self.windows[event.reply_id] = Window()
        while window.is_full:
            await self._until_room()
        frame = event.frame()
        window.sent(event.cursor, len(frame))
        await self._send_text(frame)

    async def _until_room(self) -> None:
        """Wait for an acknowledgement; whoever waits too long is closed by the watch."""
        self.room = asyncio.Event()
        self.waiting_since = time.monotonic()
        await self.room.wait()
        self.room, self.waiting_since = None, 0.0

    def _make_room(self) -> None:
        if self.room is not None:
            self.room.set()

    async def _send_json(self, frame: dict[str, Any]) -> None:
        await self._send_text(orjson.dumps(frame).decode())

    async def _send_text(self, text: str) -> None:
        """Send one frame; the server waits while the client does not read."""
        self.sending_since = time.monotonic()
        with contextlib.suppress(*GONE):  # it was closed in between
            await self.base_send({"type": "websocket.send", "text": text})
        self.sending_since = 0.0


FRAMES = {
    "message": Conversation._message,
    "resume": Conversation._resume,
    "cancel": Conversation._cancel,
    "ack": Conversation._ack,
}
