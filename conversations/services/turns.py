"""One chat turn: accept → generate → settle. The only module that composes the stages.

The order of a turn, and where capabilities to come take their place:

1. accept:   access, content and model checked → [input guardrails] → rate limits → [budget hold] → rows → job
2. generate: lease → prompt ([memory], retrieval, [experiment's variant]) → [caches] → gateway → [tools]
             → [output guardrails] → event log
3. settle:   reply, work row, calls, [usage ledger, hold settled] in one transaction → rate limits put right
             → last event
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson
import structlog
from django.db import IntegrityError, transaction
from django.utils import timezone
from psycopg.errors import UniqueViolation

from chatplatform import jobs, tenancy
from chatplatform.api.problem import Code, Problem
from chatplatform.llm.tokens import estimate_tokens
from chatplatform.observability.context import request_id
from chatplatform.tenancy import current_tenant
from conversations import selectors
from conversations.gateway import checked_model
from conversations.models import Message, Reply, Work
from conversations.services import access, storing
from conversations.services import content as contents
from conversations.streaming import announcement, event_log, events
from conversations.streaming.events import Event
from conversations.vocabulary import Role
from tenants import control, throttling
from tenants import selectors as tenants
from tenants.auth.principal import Principal
from tenants.selectors import TenantState

log = structlog.get_logger("conversations.turns")
GENERATE = "conversations.generate_reply"


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
    """A turn that is stored and will be answered. `repeated`: it had been accepted before."""

    user_message: Message
    reply_id: UUID
    repeated: bool = False
    headers: dict[str, str] = field(default_factory=dict)  # what HTTP clients are told of their rate limits

    @property
    def event(self) -> Event:
        said = self.user_message
        kind, data = events.accepted(self.reply_id, said.id, said.client_id)
        return Event(str(self.reply_id), events.ACCEPTED_CURSOR, kind, data)


def accept(
    principal: Principal,
    conversation_id: UUID,
    content: Any,
    *,
    options: Options = Options(),
    client_id: str | None = None,
    origin: str = "",
) -> Accepted:
    """Store a message and the reply to be, in one transaction, and have the reply generated once it commits.

    The same `client_id` again gives what was accepted then. `origin` names the socket that sent it, which is not
    told of its own message. Raises Problem: `not_found`, content, model, `rate_limited`, `reply_in_progress`.
    """
    model, contact_id = access.speaking_in(principal, conversation_id)
    text = contents.checked(content)
    about: Any = {"conversation_id": conversation_id, "created_at": timezone.now()}
    said = Message(role=Role.USER, content=text, client_id=client_id, **about)
    answer = Message(role=Role.ASSISTANT, **about)
    try:
        state = tenants.state(current_tenant().id)
        checked_model(model or state.configuration.primary_model, state.configuration.allowed_models)
        headers = _admit(state, contact_id, said, answer, options)
        return _store(said, answer, options, origin, headers)
    except (Problem, IntegrityError) as error:
        if client_id is not None and (earlier := _earlier(conversation_id, client_id)):
            return earlier
        if isinstance(error.__cause__, UniqueViolation):
            raise Problem(
                Code.REPLY_IN_PROGRESS, "This conversation's last message is still being answered."
            ) from error
        raise


def _earlier(conversation_id: UUID, client_id: str) -> Accepted | None:
    said = (
        Message.objects.filter(conversation=conversation_id, client_id=client_id)
        .select_related("answer")
        .first()
    )
    return Accepted(said, said.answer.pk, repeated=True) if said else None


def _admit(
    state: TenantState, contact_id: UUID | None, said: Message, answer: Message, options: Options
) -> dict[str, str]:
    """Raises Problem `rate_limited`. Tokens are held for what is known, and put right when the reply ends."""
    configuration = state.configuration
    sent = estimate_tokens(configuration.system_prompt) + estimate_tokens(said.content)
    most = configuration.max_tokens_per_response
    decision = throttling.admit(state, contact_id, answer.id, sent + min(options.max_tokens or most, most))
    return throttling.headers(decision)


def _store(
    said: Message, answer: Message, options: Options, origin: str, headers: dict[str, str]
) -> Accepted:
    try:
        storing.store(said, answer, options.as_json())
    except Exception:
        throttling.correct(tenants.state(current_tenant().id), answer.id, 0)
        raise
    accepted = Accepted(said, answer.id, headers=headers)
    transaction.on_commit(lambda: _hand_over(accepted, origin))
    return accepted


def _hand_over(accepted: Accepted, origin: str) -> None:
    """Begin the event log, then enqueue: the other way round a quick worker could be fenced out by us.

    Whatever of this is lost, with the process or with Valkey, the reconciler makes up for from the work row.
    """
    message = {"origin": origin, "message": selectors.message_as_json(accepted.user_message)}
    try:
        announcement.announce(accepted.user_message.conversation_id, accepted.event, orjson.dumps(message))
    except event_log.RedisError as error:
        log.warning("accepted_not_announced", reply=str(accepted.reply_id), error=type(error).__name__)
    jobs.enqueue(GENERATE, str(accepted.reply_id), tenant=current_tenant(), request=request_id.get())


def cancel(reply: Reply) -> Reply:
    """Ask for a reply to stop. What was generated is kept; on a finished reply it changes nothing."""
    with tenancy.in_platform():
        asked = Work.objects.filter(id=reply.pk, cancel_requested=False).update(cancel_requested=True)
    if asked:
        control.publish("cancel_reply", reply_id=str(reply.pk))
    return reply
