"""One chat turn: accept → generate → settle. The only module that composes the stages.

The order of a turn, and where capabilities to come take their place:

1. accept:   access, content and model checked → [input guardrails] → rate limits → rows with the budget hold → job
2. generate: lease → prompt ([memory], retrieval, [experiment's variant]) → [caches] → gateway → [tools]
             → [output guardrails] → event log
3. settle:   reply, work row, usage ledger, hold settled in one transaction → rate limits put right → last event
"""

from __future__ import annotations

from contextlib import ExitStack
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

from billing import pricing
from billing.services import budgets, clamping
from billing.services.budgets import Account, Held, OverBudget
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
from conversations.services.access import Speaking
from conversations.streaming import announcement, event_log, events
from conversations.streaming.events import Event
from conversations.vocabulary import Role
from tenants import control, throttling
from tenants import selectors as tenants
from tenants.auth.principal import Principal
from tenants.secrets import UnknownKey
from tenants.selectors import TenantState

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


async def accept_here(
    principal: Principal,
    conversation_id: UUID,
    content: Any,
    *,
    options: Options = Options(),
    client_id: str | None = None,
    origin: str = "",
) -> Accepted:
    """Store a message and the reply to be, in one transaction, and have the reply generated. For an event loop; whoever
    leaves once the conversation was looked at has said it all the same.

    The same `client_id` again gives what was accepted then. `origin` names the socket that sent it, which is not
    told of its own message. Raises Problem: `not_found`, content, model, `rate_limited`, `budget_exceeded`,
    `reply_in_progress`.
    """

    async def work(speaking: Speaking, timed: ExitStack) -> Accepted:
        with timed:
            accepted = await _admit(speaking, conversation_id, content, options, client_id)
        if not accepted.repeated:
            await _hand_over(accepted, origin)
        return accepted

    with ExitStack() as timed:
        timed.enter_context(ADMISSION.time())
        # Whoever waits for a database that hangs, and gives up, is not to be served in vain when it goes on.
        speaking = await access.speaking_in(principal, conversation_id)
        return await jobs.to_the_end(work(speaking, timed.pop_all()))


def accept(
    principal: Principal,
    conversation_id: UUID,
    content: Any,
    *,
    options: Options = Options(),
    client_id: str | None = None,
) -> Accepted:
    """As `accept_here`, for a thread: in its transaction, if there is one, and the reply is begun once that commits."""
    with ADMISSION.time():
        speaking = jobs.at_once(access.speaking_in(principal, conversation_id))
        accepted = jobs.at_once(_admit(speaking, conversation_id, content, options, client_id))
    if not accepted.repeated:
        transaction.on_commit(lambda: jobs.at_once(_hand_over(accepted)))
    return accepted


async def _admit(
    speaking: Speaking, conversation_id: UUID, content: Any, options: Options, client_id: str | None
) -> Accepted:
    text = contents.checked(content)
    about: Any = {"conversation_id": conversation_id, "created_at": timezone.now()}
    said = Message(role=Role.USER, content=text, client_id=client_id, **about)
    answer = Message(role=Role.ASSISTANT, **about)
    try:
        state = await jobs.here_or_in_thread(tenants.state, current_tenant().id)
        await pricing.fresh()  # an event loop asks for prices without looking how old they are
        name = speaking.model or state.configuration.primary_model
        model = checked_model(name, state.configuration.allowed_models)
        call = await jobs.here_or_in_thread(
            spending.first_call, state, speaking, text, model, options.max_tokens
        )
        headers = await _within_limits(state, speaking.contact_id, answer.id, call)
        account = Account(
            answer.id, 1, conversation_id, speaking.contact_id, said.created_at.astimezone(UTC).date()
        )
        await _store(said, answer, options, state, call, account, model)
        return Accepted(said, answer.id, headers=headers)
    except UnknownKey as error:  # the end user was erased since we looked
        raise Problem(Code.NOT_FOUND, access.NO_CONVERSATION) from error
    except (Problem, IntegrityError) as error:
        if client_id is not None:
            earlier = await jobs.in_thread(_earlier, conversation_id, client_id)
            if earlier:
                return earlier
        if isinstance(error.__cause__, UniqueViolation):
            raise Problem(
                Code.REPLY_IN_PROGRESS, "This conversation's last message is still being answered."
            ) from error
        if isinstance(error.__cause__, ForeignKeyViolation):  # as above
            raise Problem(Code.NOT_FOUND, access.NO_CONVERSATION) from error
        raise


async def _within_limits(
    state: TenantState, contact: UUID | None, call: UUID, first: NextCall
) -> dict[str, str]:
    """What the client is told of its rate limits. Raises Problem `rate_limited`."""
    if not throttling.counts(state, contact):
        return {}
    admitted = await jobs.in_thread(throttling.admit, state, contact, call, first.worst.tokens)
    return throttling.headers(admitted)


def _earlier(conversation_id: UUID, client_id: str) -> Accepted | None:
    said = (
        Message.objects.filter(conversation=conversation_id, client_id=client_id)
        .select_related("answer")
        .first()
    )
    return Accepted(said, said.answer.pk, repeated=True) if said else None


async def _store(
    said: Message,
    answer: Message,
    options: Options,
    state: TenantState,
    call: NextCall,
    account: Account,
    model: ModelRef,
) -> None:
    """Write it down, with the hold for the first call or for as long an answer as the budget has room for."""
    limits = budgets.limits_of(state)

    async def store(wanted: NextCall) -> None:
        shorter = wanted.max_tokens < call.max_tokens
        asked = replace(options, max_tokens=wanted.max_tokens, clamped=True) if shorter else options
        held = Held(model, wanted.input_tokens)
        await storing.store(said, answer, asked.as_json(), account, wanted.worst, limits, held)

    def clamp() -> None:
        clamping.take(
            lambda wanted: jobs.at_once(store(wanted)), call, account, limits, free=holds.return_dead_apart
        )

    try:
        try:
            await store(call)
        except OverBudget:
            await jobs.in_thread(clamp)
    except Exception:
        if throttling.counts_tokens(state):
            await jobs.in_thread(throttling.correct, state, answer.id, 0)
        raise


async def _hand_over(accepted: Accepted, origin: str = "") -> None:
    """Begin the event log and send the job, in this order, for the log to begin with what was accepted.

    Whatever of this is lost, with the process or with Valkey, the reconciler makes up for from the work row.
    """
    said, reply = accepted.user_message, str(accepted.reply_id)
    message = orjson.dumps({"origin": origin, "message": selectors.message_as_json(said)})
    about: dict[str, Any] = {"tenant": current_tenant(), "request": request_id.get()}
    job = jobs.packed(GENERATE, reply, server=settings.EVENT_LOG_URL, **about)
    try:
        sent = await announcement.announce(said.conversation_id, accepted.event, message, job)
    except event_log.RedisError as error:
        log.warning("accepted_not_announced", reply=reply, error=type(error).__name__)
        sent = False
    if not sent:
        await jobs.in_thread(jobs.enqueue, GENERATE, reply, **about)


def cancel(reply: Reply) -> Reply:
    """Ask for a reply to stop. What was generated is kept; on a finished reply it changes nothing."""
    with tenancy.in_platform():
        asked = Work.objects.filter(id=reply.pk, cancel_requested=False).update(cancel_requested=True)
    if asked:
        control.publish("cancel_reply", reply_id=str(reply.pk))
    return reply
