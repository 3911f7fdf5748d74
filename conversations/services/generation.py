"""Generates one reply in a worker: prompt, retrieval, provider stream, event log, settlement.

Runs in the worker's shared event loop; database work goes to its few threads.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from django.utils import timezone

from billing import pricing
from chatplatform import jobs
from chatplatform.api.problem import DATABASE_GONE, Code, Problem
from chatplatform.llm import errors
from chatplatform.llm.tokens import estimate_tokens
from chatplatform.llm.types import (
    ChatMessage,
    CompletionRequest,
    Finished,
    ModelRef,
    Passage,
    TextDelta,
    Usage,
)
from chatplatform.tenancy import current_tenant
from conversations.gateway import checked_model, gateway
from conversations.models import Message, Reply
from conversations.prompts.build import build
from conversations.rag import embedders
from conversations.rag.retrieval import find
from conversations.services import leases, settlement
from conversations.services.lease_keeper import Hold, holding
from conversations.services.settlement import Outcome
from conversations.streaming.writer import ReplyWriter
from conversations.vocabulary import ReplyStatus, ResetReason
from tenants import selectors as tenants
from tenants.vocabulary import TenantStatus

log = structlog.get_logger("conversations.generation")
CHECKPOINT_EVERY = 2.0  # s
# Seconds between two tries. If another worker takes over meanwhile, ours is fenced out.
SETTLE_TRIES, SETTLE_PAUSE = 20, 0.5
PASSAGES = 3


@dataclass(slots=True)
class Turn:
    """All that one attempt works with, and what it has got so far."""

    reply_id: UUID
    conversation_id: UUID
    attempt: int
    request: CompletionRequest
    models: list[ModelRef]
    configuration: int
    writer: ReplyWriter
    model: ModelRef = ModelRef("", "")
    spent: Usage = Usage()
    first_token_at: datetime | None = None
    degraded_from: list[str] = field(default_factory=list)


async def generate(reply_id: UUID) -> None:
    """Take the lease on a reply of the current tenant and bring it to its end, or leave if somebody else is at it."""
    lease = await jobs.in_thread(leases.acquire, reply_id)
    if lease is None:
        log.info("nothing_to_generate", reply=str(reply_id))
        return
    attempt, cancelled = lease
    with holding(reply_id) as hold:
        if cancelled:
            hold.cancel()
        outcome, writer = await _attempt(reply_id, attempt, hold)
        await writer.finish()
        if writer.stale.is_set() or (hold.stop.is_set() and not hold.cancelled):
            log.warning("attempt_superseded", reply=str(reply_id), attempt=attempt)
            return
        reply = await _settle(reply_id, attempt, outcome)
    if reply is not None and await writer.end(outcome.status, reply):
        await jobs.in_thread(leases.done, reply_id)
    log.info(
        "reply_ended",
        reply=str(reply_id),
        status=str(outcome.status),
        attempt=attempt,
        model=str(outcome.model),
    )


async def _settle(reply_id: UUID, attempt: int, outcome: Outcome) -> dict[str, Any] | None:
    """Write the end of the reply, also if PostgreSQL restarts just now: an answer was paid for only once."""
    for _ in range(SETTLE_TRIES):
        try:
            return await jobs.in_thread(settlement.settle, reply_id, attempt, outcome)
        except DATABASE_GONE as error:
            log.warning("settlement_waits", reply=str(reply_id), error=type(error).__name__)
            await asyncio.sleep(SETTLE_PAUSE)
    return await jobs.in_thread(settlement.settle, reply_id, attempt, outcome)


async def _attempt(reply_id: UUID, attempt: int, hold: Hold) -> tuple[Outcome, ReplyWriter]:
    """One attempt, whatever becomes of it."""
    reply, said = await jobs.in_thread(_load, reply_id)
    writer = ReplyWriter(reply.conversation_id, reply_id, attempt)
    writer.start(ResetReason.RESTART if attempt > 1 else None)
    try:
        if hold.cancelled:
            return Outcome(ReplyStatus.CANCELLED, finish_reason="cancelled"), writer
        turn = await _prepare(reply, said, writer)
        async with _checkpoints(turn):
            return await _ask_until_stopped(turn, hold), writer
    except Problem as problem:
        return _failed(str(problem.code), problem.detail), writer
    except Exception:
        log.exception("generation_failed", reply=str(reply_id), attempt=attempt)
        return _failed(Code.INTERNAL_ERROR, "Something went wrong here.", text=writer.text), writer


def _load(reply_id: UUID) -> tuple[Reply, list[ChatMessage]]:
    """The reply with its conversation, and what was said up to its question, oldest first."""
    reply = Reply.objects.select_related("conversation", "user_message").get(pk=reply_id)
    rows = Message.objects.filter(conversation=reply.conversation_id, id__lte=reply.user_message_id)
    newest = rows.order_by("-id").only("role", "content")[:20]
    said = [
        ChatMessage("user" if row.role == "user" else "assistant", row.content)
        for row in newest
        if row.content
    ]
    return reply, said[::-1]


async def _prepare(reply: Reply, said: list[ChatMessage], writer: ReplyWriter) -> Turn:
    """The request for the models. Raises Problem where the tenant or its configuration does not allow it now."""
    state = await jobs.in_thread(tenants.state, current_tenant().id)
    if state.status != TenantStatus.ACTIVE:
        raise Problem(Code.TENANT_SUSPENDED)
    settings, conversation = state.configuration, reply.conversation
    found = await jobs.in_thread(find, said[-1].content, limit=PASSAGES)
    prompt = build(conversation.system_prompt or settings.system_prompt, state.name, said, found.nearest)
    asked = reply.options.get("max_tokens")
    names = [
        conversation.model or settings.primary_model,
        *(conversation.fallback_model or settings.fallback_model),
    ]
    models = list(dict.fromkeys(checked_model(name, settings.allowed_models) for name in names))
    request = CompletionRequest(
        model=models[0],
        messages=prompt.messages,
        system=prompt.system,
        temperature=settings.temperature if conversation.temperature is None else conversation.temperature,
        max_tokens=min(asked or settings.max_tokens_per_response, settings.max_tokens_per_response),
        passages=found.answering,
    )
    return Turn(reply.pk, reply.conversation_id, reply.attempt, request, models, settings.number, writer)


async def _ask_until_stopped(turn: Turn, hold: Hold) -> Outcome:
    """The outcome of asking the models, or of being stopped in the middle of it."""
    asking = asyncio.create_task(_ask(turn))
    stopped = asyncio.create_task(hold.stop.wait())
    stale = asyncio.create_task(turn.writer.stale.wait())
    try:
        await asyncio.wait({asking, stopped, stale}, return_when=asyncio.FIRST_COMPLETED)
        if asking.done():
            return await asking
    finally:
        for task in (asking, stopped, stale):
            task.cancel()
        await asyncio.gather(asking, stopped, stale, return_exceptions=True)
    usage = turn.spent + _estimated(turn)
    return _ended(turn, ReplyStatus.CANCELLED, "cancelled", usage)


async def _ask(turn: Turn) -> Outcome:
    """Ask the models in their order until one answers."""
    failure: errors.ProviderError | None = None
    for model in turn.models:
        turn.model = model
        try:
            finished = await _stream(turn)
        except errors.ProviderError as error:
            log.warning("provider_failed", kind=str(error.kind), provider=model.provider, model=model.name)
            failure = error
            if turn.writer.text:
                turn.spent += _estimated(turn)
                if model is not turn.models[-1]:
                    turn.writer.restart(ResetReason.FAILOVER)
            turn.degraded_from.append(str(model))
        else:
            return _ended(turn, ReplyStatus.COMPLETED, finished.finish_reason, turn.spent + finished.usage)
    assert failure is not None
    ended = _ended(turn, ReplyStatus.FAILED, "error", turn.spent)
    return replace(ended, error_code=str(_code(failure)), error_detail=_detail(failure))


async def _stream(turn: Turn) -> Finished:
    request = replace(turn.request, model=turn.model)
    async with aclosing(gateway().stream(request)) as stream:
        async for event in stream:
            if isinstance(event, TextDelta):
                turn.first_token_at = turn.first_token_at or timezone.now()
                turn.writer.add(event.text)
            elif isinstance(event, Finished):
                return event
    raise errors.Truncated(provider=turn.model.provider, model=turn.model.name)


def _ended(turn: Turn, status: ReplyStatus, finish_reason: str, usage: Usage) -> Outcome:
    degraded = bool(turn.degraded_from) and status == ReplyStatus.COMPLETED
    notice = (
        f"{turn.model.name} answered, because {turn.degraded_from[0]} was not available." if degraded else ""
    )
    return Outcome(
        status=status,
        text=turn.writer.text,
        finish_reason=str(finish_reason),
        model=turn.model,
        usage=usage,
        cost=pricing.cost(turn.model, usage) if turn.model.name else pricing.NOTHING,
        sources=[_source(passage) for passage in turn.request.passages] if turn.writer.text else [],
        degraded=degraded,
        notice=notice,
        configuration=turn.configuration,
        first_token_at=turn.first_token_at,
    )


def _failed(code: str, detail: str, text: str = "") -> Outcome:
    return Outcome(ReplyStatus.FAILED, text, "error", error_code=str(code), error_detail=detail)


def _estimated(turn: Turn) -> Usage:
    """The usage of a call whose own count never came, from what was sent and received."""
    sent = turn.request.system + "".join(message.content for message in turn.request.messages)
    return Usage(input_tokens=estimate_tokens(sent), output_tokens=estimate_tokens(turn.writer.text))


def _source(passage: Passage) -> dict[str, Any]:
    return {
        "title": passage.title,
        "url": passage.url,
        "document_id": passage.document_id,
        "quote": passage.quote,
        "score": round(passage.score, 4),
    }


UNAVAILABLE = (errors.NotConfigured, errors.Overloaded, errors.RateLimited, errors.ConnectionLost)


def _code(error: errors.ProviderError) -> Code:
    if isinstance(error, errors.ProviderTimeout):
        return Code.DEADLINE_EXCEEDED
    return Code.PROVIDER_UNAVAILABLE if isinstance(error, UNAVAILABLE) else Code.PROVIDER_ERROR


def _detail(error: errors.ProviderError) -> str:
    if isinstance(error, errors.NotConfigured):
        return f"No key and no endpoint is set for {error.provider}."
    return f"{error.provider} could not answer ({error.kind.value.replace('_', ' ')})."


@asynccontextmanager
async def _checkpoints(turn: Turn) -> AsyncIterator[None]:
    """Keeps the text so far in PostgreSQL every few seconds."""

    async def keep() -> None:
        kept = ""
        while True:
            await asyncio.sleep(CHECKPOINT_EVERY)
            text = turn.writer.text
            if text != kept:
                with contextlib.suppress(Exception):  # the next one, or the settlement, makes up for it
                    await jobs.in_thread(settlement.checkpoint, turn.reply_id, turn.attempt, text)
                kept = text

    task = asyncio.create_task(keep())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _warm_up() -> None:
    """Load the SDKs and the embedding model at the worker's start: it takes seconds that no visitor should wait."""
    await asyncio.to_thread(gateway().warm_up)
    await asyncio.to_thread(embedders.warm_up)


jobs.on_loop_start(_warm_up)
