"""Asks the models for one reply: the request, the models in their order, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import structlog

from billing import pricing
from billing.services.budgets import NOTHING, Amount
from chatplatform import jobs
from chatplatform.api.problem import DATABASE_GONE, Code, Problem
from chatplatform.llm import errors
from chatplatform.llm.catalog import LOCAL
from chatplatform.llm.types import ChatMessage, CompletionRequest, Finished, FinishReason, ModelRef, Passage
from chatplatform.observability import metrics
from chatplatform.tenancy import current_tenant
from conversations.gateway import checked_model, named_model
from conversations.guards import deadline, retries
from conversations.models import Reply
from conversations.prompts.build import PASSAGES, build
from conversations.rag.retrieval import Found, find
from conversations.services import attempts, embedding
from conversations.services.attempts import ProviderCall
from conversations.services.calling import HUNG_UP, NOT_ASKED, Calls
from conversations.services.settlement import Outcome
from conversations.services.spending import allowance
from conversations.streaming.writer import ReplyWriter
from conversations.vocabulary import ReplyStatus
from tenants import selectors as tenants
from tenants.vocabulary import Feature, TenantStatus

log = structlog.get_logger("conversations.asking")
BUILT_IN_ANSWERED = (
    "No language model could be reached. The built-in assistant answered with quotations from the documents."
)


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
    calls: Calls
    unusable: dict[ModelRef, str] = field(default_factory=dict)  # fallbacks to be left out, and why
    last_resort: ModelRef | None = None
    degraded_from: list[str] = field(default_factory=list)
    clamped: bool = False  # to what the budget had left, when the message was accepted


async def prepare(
    reply: Reply,
    said: list[ChatMessage],
    writer: ReplyWriter,
    made: list[ProviderCall],
    knows: bool = True,
    held: Amount = NOTHING,
) -> Turn:
    """The request for the models; `knows` says whether there are documents to look into, `held` what is held for it.
    The embedding of the question goes into `made`, and so do the calls of the turn.

    Raises Problem where the tenant or its configuration does not allow it now. A fallback that may not be used is
    left out of the chain: the reply does not need it, unless all before it fail.
    """
    until, tenant_id = deadline(), current_tenant().id
    state = await jobs.here_or_in_thread(tenants.state, tenant_id)
    if state.status != TenantStatus.ACTIVE:
        raise Problem(Code.TENANT_SUSPENDED)
    settings, conversation = state.configuration, reply.conversation
    prices = await pricing.fresh()
    asked = reply.options.get("max_tokens")
    primary = checked_model(conversation.model or settings.primary_model, settings.allowed_models)
    fallbacks = conversation.fallback_model or settings.fallback_model
    unusable: dict[ModelRef, str] = {}
    models = list(
        dict.fromkeys([primary, *(_fallback(name, settings.allowed_models, unusable) for name in fallbacks)])
    )
    last_resort = LOCAL if settings.degrade_to_local and LOCAL not in models else None
    may_spend = allowance(state, attempts.account(reply), prices, held)
    found = Found()
    if knows and state.terms.includes(Feature.KNOWLEDGE):
        using = embedding.of_turn(may_spend, made)
        found = await jobs.in_thread(find, said[-1].content, limit=PASSAGES, using=using)
    prompt = build(conversation.system_prompt or settings.system_prompt, state.name, said, found.nearest)
    request = CompletionRequest(
        model=models[0],
        messages=prompt.messages,
        system=prompt.system,
        temperature=settings.temperature if conversation.temperature is None else conversation.temperature,
        max_tokens=min(asked or settings.max_tokens_per_response, settings.max_tokens_per_response),
        passages=found.answering,
    )
    return Turn(
        reply_id=reply.pk,
        conversation_id=reply.conversation_id,
        attempt=reply.attempt,
        request=request,
        models=[*models, last_resort] if last_resort else models,
        configuration=settings.number,
        writer=writer,
        calls=Calls(request, writer, until, may_spend, made),
        unusable=unusable,
        last_resort=last_resort,
        clamped=bool(reply.options.get("clamped")),
    )


def _fallback(name: str, allowed: list[str] | None, unusable: dict[ModelRef, str]) -> ModelRef:
    """The model behind a fallback's name; it goes among the unusable ones if it is that."""
    try:
        return checked_model(name, allowed)
    except Problem as problem:
        unusable[model := named_model(name)] = problem.detail
        return model


async def ask(turn: Turn) -> Outcome:
    """Ask the models in their order until one answers or the time is over. The outcome has the record of all calls
    that were made. Raises DATABASE_GONE, if the next call cannot be held for.
    """
    try:
        return await _ask(turn)
    except DATABASE_GONE:
        raise
    except Exception:
        log.exception("asking_failed", reply=str(turn.reply_id), attempt=turn.attempt)
        return _gave_up(turn, Code.INTERNAL_ERROR, "Something went wrong here.")


async def _ask(turn: Turn) -> Outcome:
    failures: list[errors.ProviderError] = []
    for model in turn.models:
        try:
            finished = await _answer(turn, model)
        except errors.ProviderError as error:
            log.warning("provider_failed", kind=str(error.kind), provider=model.provider, model=model.name)
            failures.append(error)
            turn.degraded_from.append(str(model))
            if turn.calls.deadline.passed:
                break
        else:
            return ended(turn, ReplyStatus.COMPLETED, finished.finish_reason)
    if turn.calls.deadline.passed:
        seconds = turn.calls.deadline.seconds
        return _gave_up(turn, Code.DEADLINE_EXCEEDED, f"The reply was not finished within {seconds:g} s.")
    asked = [failure for failure in failures if not isinstance(failure, NOT_ASKED)]
    detail = " ".join(dict.fromkeys(map(_detail, failures)))
    over = [failure for failure in failures if isinstance(failure, errors.OverBudget)]
    return _gave_up(turn, _code((over or asked or failures)[-1]), detail)


async def _answer(turn: Turn, model: ModelRef) -> Finished:
    """One model's answer, at the second or third try if nothing was shown of the ones before. Raises ProviderError."""
    if model in turn.unusable:
        raise turn.calls.refuse(model, turn.unusable[model])
    tried = 0
    while True:
        tried += 1
        try:
            return await turn.calls.call(model)
        except errors.ProviderError as error:
            if not _may_retry(turn, error):
                raise
            pause = retries().pause(tried, left=turn.calls.deadline.left, retry_after=error.retry_after)
            if pause is None:
                raise
        metrics.CALL_RETRIES.labels(model.provider, metrics.model_label(model.name)).inc()
        await asyncio.sleep(pause)


def _may_retry(turn: Turn, error: errors.ProviderError) -> bool:
    """A model that let a deadline pass has had its time: the rest of it is for another."""
    had_its_time = isinstance(error, errors.ProviderTimeout) and error.phase in HUNG_UP
    return error.retryable and not had_its_time and not turn.writer.text


def ended(turn: Turn, status: ReplyStatus, finish_reason: str) -> Outcome:
    """The outcome of a turn as it stands. What it used, and costs, is that of all its calls."""
    degraded = bool(turn.degraded_from) and status == ReplyStatus.COMPLETED
    return Outcome(
        status=status,
        text=turn.writer.text,
        finish_reason=str(finish_reason),
        model=turn.calls.model,
        usage=turn.calls.spent,
        cost=turn.calls.cost,
        sources=[_source(passage) for passage in turn.request.passages] if turn.writer.text else [],
        degraded=degraded,
        notice=_notice(turn, degraded, finish_reason),
        configuration=turn.configuration,
        first_token_at=turn.calls.first_token_at,
        calls=list(turn.calls.made),
    )


def _notice(turn: Turn, degraded: bool, finish_reason: str) -> str:
    """What to tell beside the answer: who gave it, and why it is short."""
    told = []
    model = turn.calls.model
    if degraded and model == turn.last_resort:
        told.append(BUILT_IN_ANSWERED)
    elif degraded:
        told.append(f"{model.name} answered, because {turn.degraded_from[0]} was not available.")
    if finish_reason == FinishReason.LENGTH and (turn.clamped or turn.calls.cut_at):
        asked = turn.request.max_tokens or 0
        tokens = turn.calls.cut_at or asked
        is_short = turn.clamped or tokens < asked
        why = "the budget has no room for more" if is_short else "it may not be longer"
        told.append(f"The answer was cut at {tokens} tokens: {why}.")
    return " ".join(told)


def _gave_up(turn: Turn, code: Code, detail: str) -> Outcome:
    outcome = ended(turn, ReplyStatus.FAILED, "error")
    return replace(outcome, error_code=str(code), error_detail=detail)


def failed(code: str, detail: str, made: Sequence[ProviderCall] = (), text: str = "") -> Outcome:
    """The outcome of an attempt that failed by something else than its calls; `made` are those."""
    return Outcome(
        ReplyStatus.FAILED,
        text,
        "error",
        usage=attempts.used(made),
        cost=attempts.cost(made),
        error_code=str(code),
        error_detail=detail,
        calls=list(made),
    )


def _source(passage: Passage) -> dict[str, Any]:
    return {
        "title": passage.title,
        "url": passage.url,
        "document_id": passage.document_id,
        "quote": passage.quote,
        "score": round(passage.score, 4),
    }


UNAVAILABLE = (*NOT_ASKED, errors.Overloaded, errors.RateLimited, errors.ConnectionLost)
PHASES = {
    "connect": "could not be reached in time",
    "first_token": "did not begin to answer in time",
    "inter_token": "fell silent in the middle of its answer",
    "total": "did not finish in time",
}


def _code(error: errors.ProviderError) -> Code:
    if isinstance(error, errors.OverBudget):
        return Code.BUDGET_EXCEEDED
    if isinstance(error, errors.ProviderTimeout):
        return Code.DEADLINE_EXCEEDED
    return Code.PROVIDER_UNAVAILABLE if isinstance(error, UNAVAILABLE) else Code.PROVIDER_ERROR


def _detail(error: errors.ProviderError) -> str:
    """What to tell about a failure: the provider and our own class for it, never the provider's words."""
    if isinstance(error, errors.NotConfigured):
        return f"No key and no endpoint is set for {error.provider}."
    if isinstance(error, errors.CircuitOpen):
        return f"{error.provider} was not asked, because it has failed too often lately."
    if isinstance(error, errors.OverBudget | errors.NotUsable):
        return error.detail
    if isinstance(error, errors.NoPlace):
        return f"{error.provider} was not asked, because too many of its answers are under way."
    if isinstance(error, errors.ProviderTimeout):
        return f"{error.provider} {PHASES.get(error.phase, 'timed out')}."
    return f"{error.provider} could not answer ({error.kind.value.replace('_', ' ')})."
