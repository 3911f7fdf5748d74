"""One chat turn: accept → generate → settle. The only module that composes the stages.

The order of a turn, and where capabilities to come take their place:

1. accept:   content and model checked → [input guardrails] → [rate limits, budget hold] → rows → job
2. generate: lease → prompt ([memory], retrieval, [experiment's variant]) → [caches] → gateway → [tools]
             → [output guardrails] → event log
3. settle:   reply, work row, [usage ledger, hold settled] in one transaction → last event
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import orjson
import structlog
from asgiref.sync import async_to_sync
from django.db import IntegrityError, transaction

from chatplatform import jobs, tenancy
from chatplatform.api.problem import Code, Problem
from chatplatform.tenancy import current_tenant
from conversations import selectors
from conversations.gateway import checked_model
from conversations.models import Conversation, Message, Reply, Work
from conversations.services import content as contents
from conversations.streaming import event_log, events
from conversations.streaming.event_log import Append
from conversations.streaming.events import Event
from conversations.vocabulary import ConversationStatus, Role
from tenants import control
from tenants import selectors as tenants

log = structlog.get_logger("conversations.turns")
GENERATE = "conversations.generate_reply"
ANNOUNCE_WITHIN = 1.0  # s that accepting waits for the event log; PostgreSQL has the message already


@dataclass(frozen=True, slots=True)
class Options:
    """What a request may ask of one reply."""

    use_cache: bool = True
    max_tokens: int | None = None
    tools: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {"use_cache": self.use_cache, "max_tokens": self.max_tokens, "tools": list(self.tools)}


@dataclass(frozen=True, slots=True)
class Accepted:
    """A turn that is stored and will be answered. `repeated`: this client_id had been accepted before."""

    user_message: Message
    reply: Reply
    repeated: bool = False

    @property
    def event(self) -> Event:
        kind, data = events.accepted(self.reply.pk, self.user_message.id, self.user_message.client_id)
        return Event(str(self.reply.pk), events.ACCEPTED_CURSOR, kind, data)


def accept(
    conversation: Conversation,
    content: Any,
    *,
    options: Options = Options(),
    client_id: str | None = None,
    origin: str = "",
) -> Accepted:
    """Store a message and the reply to be, in one transaction, and have the reply generated once it commits.

    The same `client_id` again gives what was accepted then. `origin` names the socket that sent it, which is not
    told of its own message. Raises Problem: content, model, `reply_in_progress`.
    """
    text = contents.checked(content)
    if client_id is not None and (earlier := _earlier(conversation, client_id)):
        return earlier
    _check_model(conversation)
    try:
        return _store(conversation, text, options, client_id, origin)
    except IntegrityError as error:
        # Two at once: the database let one of them through.
        if client_id is not None and (earlier := _earlier(conversation, client_id)):
            return earlier
        raise Problem(
            Code.REPLY_IN_PROGRESS, "This conversation's last message is still being answered."
        ) from error


def _earlier(conversation: Conversation, client_id: str) -> Accepted | None:
    found = (
        Reply.objects.select_related("message", "user_message")
        .filter(conversation=conversation, user_message__client_id=client_id)
        .first()
    )
    return Accepted(found.user_message, found, repeated=True) if found else None


def _check_model(conversation: Conversation) -> None:
    configuration = tenants.state(current_tenant().id).configuration
    checked_model(conversation.model or configuration.primary_model, configuration.allowed_models)


def _store(
    conversation: Conversation, text: str, options: Options, client_id: str | None, origin: str
) -> Accepted:
    tenant = current_tenant()
    with transaction.atomic():
        said = Message.objects.create(
            conversation=conversation, role=Role.USER, content=text, client_id=client_id
        )
        answer = Message.objects.create(conversation=conversation, role=Role.ASSISTANT)
        reply = Reply.objects.create(
            message=answer, user_message=said, conversation=conversation, options=options.as_json()
        )
        here = Conversation.objects.filter(pk=conversation.pk)
        here.update(updated_at=said.created_at)
        here.filter(status=ConversationStatus.RESOLVED).update(status=ConversationStatus.OPEN)
        with tenancy.in_platform():
            Work.objects.create(id=answer.id, tenant_id=tenant.id)
        accepted = Accepted(said, reply)
        transaction.on_commit(lambda: _hand_over(accepted, origin))
    return accepted


def _hand_over(accepted: Accepted, origin: str) -> None:
    """Begin the event log, then enqueue: the other way round a quick worker could be fenced out by us."""
    async_to_sync(_announce)(accepted, origin)
    jobs.enqueue(GENERATE, str(accepted.reply.pk), tenant=current_tenant())


async def _announce(accepted: Accepted, origin: str) -> None:
    conversation_id, reply_id = accepted.reply.conversation_id, accepted.reply.pk
    event = accepted.event
    message = {"origin": origin, "message": selectors.message_as_json(accepted.user_message)}
    try:
        async with asyncio.timeout(ANNOUNCE_WITHIN):
            to = event_log.address(conversation_id, reply_id)
            await event_log.append_all([Append(to, 0, [(event.kind, event.data)], begin=True)])
            await event_log.publish(conversation_id, "message", orjson.dumps(message))
    except (event_log.RedisError, TimeoutError) as error:
        log.warning("accepted_not_announced", reply=str(reply_id), error=type(error).__name__)


def cancel(reply: Reply) -> Reply:
    """Ask for a reply to stop. What was generated is kept; on a finished reply it changes nothing."""
    with tenancy.in_platform():
        asked = Work.objects.filter(id=reply.pk, cancel_requested=False).update(cancel_requested=True)
    if asked:
        control.publish("cancel_reply", reply_id=str(reply.pk))
    return reply
