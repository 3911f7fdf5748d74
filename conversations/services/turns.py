"""One chat turn: accept → generate → settle. The only module that composes the stages.

The order of a turn, and where capabilities to come take their place:

1. accept:   access, content and model checked → [input guardrails] → rate limits → rows with the budget hold → job
2. generate: lease → prompt ([memory], retrieval, [experiment's variant]) → [caches] → gateway → [tools]
             → [output guardrails] → event log
3. settle:   reply, work row, usage ledger, hold settled in one transaction → rate limits put right → last event
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC
from typing import Any
from uuid import UUID

import orjson
import structlog
from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone
from psycopg.errors import ForeignKeyViolation, UniqueViolation

from billing.services import budgets, clamping
from billing.services.budgets import Account, Held
from billing.services.clamping import NextCall
from chatplatform import jobs, tenancy
from chatplatform.api.problem import Code, Problem
from chatplatform.llm.types import ModelRef
from chatplatform.observability.context import request_id
from chatplatform.observability.metrics import ADMISSION
from chatplatform.tenancy import current_tenant
from conversations import selectors
from conversations.gateway import checked_model
from conversations.models import Message, Reply, Work
from conversations.services import access, holds, spending, storing
from conversations.services import content as contents
from conversations.streaming import announcement, event_log, events
from conversations.streaming.events import Event
from conversations.vocabulary import Role
from tenants import control, throttling
from tenants import selectors as tenants
from tenants.auth.principal import Principal
from tenants.secrets import UnknownKey

log = structlog.get_logger("conversations.turns")
GENERATE = "conversations.generate_reply"


@dataclass(frozen=True, slots=True)
class Options:
    """What a request may ask of one reply."""

    use_cache: bool = True
    max_tokens: int | None = None
    tools: tuple[str, ...] = ()
    clamped: bool = False  # `max_tokens` is what the budget had left

    def as_json(self) -> dict[str, Any]:
        asked = {"use_cache": self.use_cache, "max_tokens": self.max_tokens, "tools": list(self.tools)}
        return asked | {"clamped": True} if self.clamped else asked


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
    told of its own message. Raises Problem: `not_found`, content, model, `rate_limited`, `budget_exceeded`,
    `reply_in_progress`.
    """
    with ADMISSION.time():
        accepted = _admit(principal, conversation_id, content, options, client_id)
    if not accepted.repeated:
        transaction.on_commit(lambda: _hand_over(accepted, origin))
    return accepted


def _admit(
    principal: Principal, conversation_id: UUID, content: Any, options: Options, client_id: str | None
) -> Accepted:
    speaking = access.speaking_in(principal, conversation_id)
    text = contents.checked(content)
    about: Any = {"conversation_id": conversation_id, "created_at": timezone.now()}
    said = Message(role=Role.USER, content=text, client_id=client_id, **about)
    answer = Message(role=Role.ASSISTANT, **about)
    try:
        state = tenants.state(current_tenant().id)
        name = speaking.model or state.configuration.primary_model
        model = checked_model(name, state.configuration.allowed_models)
        call = spending.first_call(state, speaking, text, model, options.max_tokens)
        admitted = throttling.admit(state, speaking.contact_id, answer.id, call.worst.tokens)
        headers = throttling.headers(admitted)
        account = Account(
            answer.id, 1, conversation_id, speaking.contact_id, said.created_at.astimezone(UTC).date()
        )
        return _store(said, answer, options, headers, call, account, model)
    except UnknownKey as error:  # the end user was erased since we looked
        raise Problem(Code.NOT_FOUND, access.NO_CONVERSATION) from error
    except (Problem, IntegrityError) as error:
        if client_id is not None and (earlier := _earlier(conversation_id, client_id)):
            return earlier
        if isinstance(error.__cause__, UniqueViolation):
            raise Problem(
                Code.REPLY_IN_PROGRESS, "This conversation's last message is still being answered."
            ) from error
        if isinstance(error.__cause__, ForeignKeyViolation):  # as above
            raise Problem(Code.NOT_FOUND, access.NO_CONVERSATION) from error
        raise


def _earlier(conversation_id: UUID, client_id: str) -> Accepted | None:
    said = (
        Message.objects.filter(conversation=conversation_id, client_id=client_id)
        .select_related("answer")
        .first()
    )
    return Accepted(said, said.answer.pk, repeated=True) if said else None


def _store(
    said: Message,
    answer: Message,
    options: Options,
    headers: dict[str, str],
    call: NextCall,
    account: Account,
    model: ModelRef,
) -> Accepted:
    """Write it down, with the hold for the first call or for as long an answer as the budget has room for."""
    state = tenants.state(current_tenant().id)
    limits = budgets.limits_of(state)

    def store(wanted: NextCall) -> None:
        shorter = wanted.max_tokens < call.max_tokens
        asked = replace(options, max_tokens=wanted.max_tokens, clamped=True) if shorter else options
        held = Held(model, wanted.input_tokens)
        storing.store(said, answer, asked.as_json(), account, wanted.worst, limits, held)

    try:
        clamping.take(store, call, account, limits, free=holds.return_dead_apart)
    except Exception:
        throttling.correct(state, answer.id, 0)
        raise
    return Accepted(said, answer.id, headers=headers)


def _hand_over(accepted: Accepted, origin: str) -> None:
    """Begin the event log, then enqueue: the other way round a quick worker could be fenced out by us.

    Whatever of this is lost, with the process or with Valkey, the reconciler makes up for from the work row.
    """
    said, reply = accepted.user_message, str(accepted.reply_id)
    message = orjson.dumps({"origin": origin, "message": selectors.message_as_json(said)})
    about: Any = {"tenant": current_tenant(), "request": request_id.get()}
    job = jobs.packed(GENERATE, reply, server=settings.EVENT_LOG_URL, **about)
    try:
        sent = announcement.announce(said.conversation_id, accepted.event, message, job)
    except event_log.RedisError as error:
        log.warning("accepted_not_announced", reply=reply, error=type(error).__name__)
        sent = False
    if not sent:
        jobs.enqueue(GENERATE, reply, **about)


def cancel(reply: Reply) -> Reply:
    """Ask for a reply to stop. What was generated is kept; on a finished reply it changes nothing."""
    with tenancy.in_platform():
        asked = Work.objects.filter(id=reply.pk, cancel_requested=False).update(cancel_requested=True)
    if asked:
        control.publish("cancel_reply", reply_id=str(reply.pk))
    return reply
