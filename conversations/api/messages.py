"""Messages and their replies' events over REST: the views that wait without holding a thread."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import orjson
from django.conf import settings
from django.db import transaction
from django.http.response import HttpResponse, HttpResponseBase
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from chatplatform import draining, jobs
from chatplatform.api.pagination import PAGE, paginated
from chatplatform.api.problem import Code, Problem, invalid
from chatplatform.api.renderers import JSONRenderer
from conversations import selectors
from conversations.api import serializers, sse
from conversations.api.views import refuse_choices
from conversations.models import Message, Reply
from conversations.services import access, connections, handshake, turns
from conversations.services.turns import Accepted, Options
from conversations.streaming import events, reader
from conversations.streaming.events import Event
from conversations.streaming.hub import Ends, Leave
from conversations.streaming.reader import Cursor, Ear
from conversations.vocabulary import RUNNING, ReplyStatus
from tenants.api import idempotency
from tenants.api.base import AsyncApiView
from tenants.auth.authentication import BearerAuthentication, VisitorAuthentication

QUEUED_AT_MOST = 30.0  # s that a request waits for a worker, beside the time that a reply may take
REPLAYED = {"Idempotent-Replayed": "true"}
FAILURES = {Code.PROVIDER_ERROR, Code.PROVIDER_UNAVAILABLE, Code.DEADLINE_EXCEEDED}
NEW_MESSAGE = serializers.NewMessage()  # made once: it keeps nothing of what it checks
EVENT_STREAM = {(200, "text/event-stream"): serializers.EventShape}


class EventStream(JSONRenderer):
    """Lets clients ask for an event stream; what is not one (an error) is JSON all the same."""

    media_type = "text/event-stream"
    format = "event-stream"


class Messages(AsyncApiView):
    for_contacts = True
    more_errors = {"POST": (402, 502, 504)}
    renderer_classes = [JSONRenderer, EventStream]
    authentication_classes = [BearerAuthentication, VisitorAuthentication]

    @extend_schema(operation_id="list_messages", parameters=PAGE, responses=serializers.MessagePage)
    async def get(self, request: Request, conversation_id: UUID) -> Response:
        """List the messages of a conversation, the oldest first."""
        return await jobs.in_thread(self._list, request, conversation_id)

    def _list(self, request: Request, conversation_id: UUID) -> Response:
        conversation = access.access_conversation(self.principal, conversation_id)
        return paginated(request, selectors.messages_of(conversation), "id", selectors.message_as_json)

    @extend_schema(
        operation_id="send_message",
        request=serializers.NewMessage,
        examples=serializers.MESSAGES,
        responses={(200, "application/json"): serializers.TurnShape, **EVENT_STREAM},
    )
    async def post(self, request: Request, conversation_id: UUID) -> HttpResponseBase:
        """Say something, and get the reply: whole, or with `stream` as server-sent events."""
        handshake.check_not_leaving()
        if _streamed(request):
            return await self._stream(request, conversation_id)
        # We listen before the reply is begun, so that all of it is heard and nothing has to be read again.
        async with Ear(conversation_id, Ends) as ear:
            accepted = await self._accept(request, conversation_id)
            if isinstance(accepted, Response):
                return accepted
            headers = REPLAYED if accepted.repeated else accepted.headers
            ended = None if accepted.repeated else await _end_of(accepted.reply_id, ear)
        if ended is None:
            return _turn(*await jobs.in_thread(_stored, accepted.reply_id), headers)
        return _turn(accepted.user_message, orjson.loads(ended.data)["reply"], headers)

    async def _stream(self, request: Request, conversation_id: UUID) -> HttpResponseBase:
        await connections.join_for_this_request(self.principal)
        accepted = await self._accept(request, conversation_id)
        if isinstance(accepted, Response):
            return accepted
        following = reader.follow(conversation_id, accepted.reply_id, accepted=accepted.event)
        return sse.response(following, self.principal, REPLAYED if accepted.repeated else accepted.headers)

    async def _accept(self, request: Request, conversation_id: UUID) -> Accepted | Response:
        """The turn; with an Idempotency-Key the one that the key began, or the refusal that it got then."""
        if "HTTP_IDEMPOTENCY_KEY" in request.META:
            return await jobs.in_thread(self._accept_once, request, conversation_id)
        content, options = self._asked(request)
        return await turns.accept_here(self.principal, conversation_id, content, options=options)

    def _accept_once(self, request: Request, conversation_id: UUID) -> Accepted | Response:
        # In one transaction: a process that dies on the way leaves no key behind that nobody will ever answer.
        with transaction.atomic():
            record, fresh = idempotency.claim(self.principal, request)
            if fresh:
                return self._begin_once(record, request, conversation_id)
        return idempotency.kept(record) or _replayed(record, _streamed(request))

    def _begin_once(self, record: Any, request: Request, conversation_id: UUID) -> Accepted | Response:
        try:
            with transaction.atomic():
                content, options = self._asked(request)
                accepted = turns.accept(self.principal, conversation_id, content, options=options)
                record.reply_id = accepted.reply_id
                record.save(update_fields=["reply_id"])
        except Exception as error:
            refusal = self.handle_exception(error)
            return idempotency.keep(record, lambda: refusal, self.handle_exception)
        return accepted

    def _asked(self, request: Request) -> tuple[Any, Options]:
        refuse_choices(self.principal, request.data)
        values = NEW_MESSAGE.run_validation(request.data)
        options = Options(values["use_cache"], values.get("max_tokens"), tuple(values.get("tools") or ()))
        return values["content"], options


async def _end_of(reply_id: UUID, ear: Ear) -> Event | None:
    """A reply's last event. None if it takes too long: whether a worker runs at all is not known here."""
    longest = settings.TOTAL_TIMEOUT + QUEUED_AT_MOST
    giving_up = asyncio.get_running_loop().call_later(longest, ear.subscription.push, Leave(0))
    try:
        # All of them: to close a generator that is left before its end, asyncio starts a task.
        heard = [event async for event in reader.live(Cursor(str(reply_id)), ear, to_the_end=True)]
    finally:
        giving_up.cancel()
    return heard[-1] if heard and heard[-1].last else None


def _streamed(request: Request) -> bool:
    body: Any = request.data
    return body.get("stream") is True


def _replayed(record: Any, stream: bool) -> Accepted:
    """The turn that this key began. Raises Problem while it runs, unless the caller wants its stream."""
    rows = Reply.objects.select_related("user_message")
    reply = rows.filter(pk=record.reply_id).first() if record.reply_id else None
    if reply is None or (reply.running and not stream):
        raise Problem(Code.IDEMPOTENCY_IN_PROGRESS)
    return Accepted(reply.user_message, reply.pk, repeated=True)


def _stored(reply_id: UUID) -> tuple[Message, dict[str, Any]]:
    """A turn as PostgreSQL has it: the message, and the reply's public shape. Raises Problem: it was erased."""
    reply = Reply.objects.select_related("message", "user_message").filter(pk=reply_id).first()
    if reply is None:
        raise Problem(Code.NOT_FOUND, access.NO_CONVERSATION)
    return reply.user_message, selectors.reply_as_json(reply)


def _turn(said: Message, reply: dict[str, Any], headers: dict[str, str]) -> HttpResponse:
    """The answer to a message that was not streamed. Raises Problem for a failed reply, with the reply inside."""
    if reply["status"] in RUNNING:
        code = Code.SHUTTING_DOWN if draining.is_leaving() else Code.DEADLINE_EXCEEDED
        raise Problem(code, "The reply is still to come.", reply=reply)
    if reply["status"] == ReplyStatus.FAILED:
        said_code, detail = reply["error"]["code"], reply["error"]["detail"]
        code = Code(said_code) if said_code in FAILURES else Code.PROVIDER_ERROR
        raise Problem(code, detail, headers=headers, reply=reply)
    turn = {"user_message": selectors.message_as_json(said), "reply": reply}
    return HttpResponse(orjson.dumps(turn), content_type=JSONRenderer.media_type, headers=headers)


class ReplyEvents(AsyncApiView):
    for_contacts = True
    renderer_classes = [EventStream, JSONRenderer]
    authentication_classes = [BearerAuthentication, VisitorAuthentication]

    @extend_schema(
        operation_id="read_reply_events",
        parameters=[OpenApiParameter("Last-Event-ID", str, OpenApiParameter.HEADER)],
        responses={**EVENT_STREAM, 204: None},
    )
    async def get(self, request: Request, conversation_id: UUID, reply_id: UUID) -> HttpResponseBase:
        """Follow the events of a reply, from its start or after `Last-Event-ID`."""
        handshake.check_not_leaving()
        after = request.headers.get("Last-Event-ID") or None
        if after is not None:
            _check_cursor(after)
        await jobs.in_thread(self._reply, conversation_id, reply_id)
        if after is not None and await reader.at_end(reply_id, after):
            return Response(status=204)
        await connections.join_for_this_request(self.principal)
        return sse.response(reader.follow(conversation_id, reply_id, after), self.principal)

    def _reply(self, conversation_id: UUID, reply_id: UUID) -> Reply:
        return access.access_reply(access.access_conversation(self.principal, conversation_id), reply_id)


def _check_cursor(after: str) -> None:
    try:
        events.position(after)
    except ValueError as error:
        raise invalid("Last-Event-ID", str(error)) from error
