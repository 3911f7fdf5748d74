"""Asks the models for one reply: the request, the models in their order, and what came of it."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from django.utils import timezone

from billing import pricing
from chatplatform import jobs
from chatplatform.api.problem import Code, Problem
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
from conversations.models import Reply
from conversations.prompts.build import build
from conversations.rag.retrieval import Found, find
from conversations.services.settlement import Outcome
from conversations.streaming.writer import ReplyWriter
from conversations.vocabulary import ReplyStatus, ResetReason
from tenants import selectors as tenants
from tenants.vocabulary import TenantStatus

log = structlog.get_logger("conversations.asking")
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


async def prepare(reply: Reply, said: list[ChatMessage], writer: ReplyWriter, knows: bool = True) -> Turn:
    """The request for the models; `knows` says whether there are documents to look into.

    Raises Problem where the tenant or its configuration does not allow it now.
    """
    tenant_id = current_tenant().id
    state = tenants.cached_state(tenant_id)
    if state is None:
        state = await jobs.in_thread(tenants.state, tenant_id)
    if state.status != TenantStatus.ACTIVE:
        raise Problem(Code.TENANT_SUSPENDED)
    settings, conversation = state.configuration, reply.conversation
    found = await jobs.in_thread(find, said[-1].content, limit=PASSAGES) if knows else Found()
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


async def ask(turn: Turn) -> Outcome:
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
                turn.spent += estimated(turn)
                if model is not turn.models[-1]:
                    turn.writer.restart(ResetReason.FAILOVER)
            turn.degraded_from.append(str(model))
        else:
            return ended(turn, ReplyStatus.COMPLETED, finished.finish_reason, turn.spent + finished.usage)
    assert failure is not None
    outcome = ended(turn, ReplyStatus.FAILED, "error", turn.spent)
    return replace(outcome, error_code=str(_code(failure)), error_detail=_detail(failure))


async def _stream(turn: Turn) -> Finished:
    request = replace(turn.request, model=turn.model)
    async with aclosing(gateway().stream_batches(request)) as batches:
        async for batch in batches:
            for event in batch:
                if isinstance(event, TextDelta):
                    turn.first_token_at = turn.first_token_at or timezone.now()
                    turn.writer.add(event.text)
                elif isinstance(event, Finished):
                    return event
    raise errors.Truncated(provider=turn.model.provider, model=turn.model.name)


def ended(turn: Turn, status: ReplyStatus, finish_reason: str, usage: Usage) -> Outcome:
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


def failed(code: str, detail: str, text: str = "") -> Outcome:
    return Outcome(ReplyStatus.FAILED, text, "error", error_code=str(code), error_detail=detail)


def estimated(turn: Turn) -> Usage:
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
