"""Embeddings: the built-in model costs nothing; a provider's is held for, asked and booked as every other call is.

The one way to an embedder, so that none is asked whose cost no budget sees.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog
from django.utils import timezone

from billing import plans, pricing
from billing.services import budgets, clamping, thresholds
from billing.services.budgets import Account, Amount, Held
from billing.services.clamping import NextCall
from billing.services.metering import Rate
from billing.vocabulary import CallOutcome, EntryKind
from chatplatform.api.problem import Code, Problem
from chatplatform.llm import errors
from chatplatform.llm.tokens import answer_tokens, most_tokens
from chatplatform.llm.types import ModelRef, Usage
from chatplatform.postgres.models import uuid7
from chatplatform.tenancy import current_tenant
from conversations.rag import embedders
from conversations.rag.embeddings import Embedder
from conversations.rag.retrieval import QUESTION_CHARACTERS
from conversations.services import attempts, holds
from conversations.services.attempts import ProviderCall
from tenants import selectors as tenants

if TYPE_CHECKING:
    from conversations.services.spending import Allowance

log = structlog.get_logger("conversations.embedding")
Vectors = list[list[float]]


def worst_of_question(question: str, markup_percent: Decimal) -> Amount:
    """The most that the embedding of a question takes; nothing by the built-in model, or if it has no price and so is
    not asked."""
    model = embedders.model()
    if model is None or not pricing.is_priced(model):
        return budgets.NOTHING
    tokens = most_tokens(question[:QUESTION_CHARACTERS], model)
    return _next(model, tokens, markup_percent).worst


def warn_if_unpriced() -> None:
    """Tell at the start of a worker: questions would be answered by their words alone, and nobody would know why."""
    model = embedders.model()
    if model and not pricing.is_priced(model):
        log.error("embedding_model_unpriced", model=str(model))


def of_turn(allowance: Allowance, made: list[ProviderCall]) -> Embedder:
    """For the question of a turn: the call goes into `made`, to be booked with the others of its attempt.

    Where it may not be made, for want of a price or by a budget, the embedder raises ProviderError. For a thread.
    """

    def call(model: ModelRef, texts: list[str]) -> Vectors:
        try:
            granted = allowance.hold_embedding(model, _most(texts, model), made)
        except pricing.Unpriced:
            failure: errors.ProviderError = errors.NotUsable("it has no price", model=str(model))
        except errors.OverBudget as error:
            failure = error
        else:
            return _asked(model, texts, granted, made.append)
        made.append(_skipped(model, failure))
        raise failure

    return embedders.embedder(call)


def outside_of_turns(document: UUID | None = None) -> Embedder:
    """For all else: each call is held for on the tenant's budgets, and booked as soon as it is over.

    The embedder raises Problem `model_unpriced`, `budget_exceeded` or `provider_unavailable`.
    """
    state = tenants.state(current_tenant().id)
    limits = budgets.limits_of(state)

    def call(model: ModelRef, texts: list[str]) -> Vectors:
        account = Account(uuid7(), 1, None, None, timezone.now().date(), document)

        def hold(wanted: NextCall) -> None:
            budgets.hold_again(account, (), wanted.worst, limits, Held(model, wanted.input_tokens))

        def book(made: ProviderCall) -> None:
            settled = budgets.settle(account, attempts.rows(account, [made]))
            thresholds.note(account.day, limits, settled)

        try:
            wanted = _next(model, _most(texts, model), plans.terms(state).markup_percent)
            clamping.take(hold, wanted, account, limits, free=holds.return_dead_apart)
            return _asked(model, texts, wanted, book)
        except pricing.Unpriced as error:
            raise Problem(Code.MODEL_UNPRICED, f"The embedding model {str(model)!r} has no price.") from error
        except errors.ProviderError as error:
            why = error.kind.value.replace("_", " ")
            detail = f"The embedding model {str(model)!r} could not be asked ({why})."
            raise Problem(Code.PROVIDER_UNAVAILABLE, detail) from error

    return embedders.embedder(call)


def _skipped(model: ModelRef, failure: errors.ProviderError) -> ProviderCall:
    kind, why = EntryKind.EMBEDDING, str(failure.kind)
    return ProviderCall(model, CallOutcome.SKIPPED, timezone.now(), 0, error=why, kind=kind)


def _most(texts: list[str], model: ModelRef) -> int:
    return sum(most_tokens(text, model) for text in texts)


def _next(model: ModelRef, tokens: int, markup_percent: Decimal) -> NextCall:
    """Raises Unpriced."""
    return NextCall(Rate(pricing.price(model, tokens), markup_percent), tokens, 0)


def _asked(
    model: ModelRef, texts: list[str], granted: NextCall, book: Callable[[ProviderCall], None]
) -> Vectors:
    """Ask, and book what came of it. Raises ProviderError."""
    started_at, began = timezone.now(), time.monotonic()

    def end(outcome: CallOutcome, usage: Usage | None, **how: Any) -> None:
        call = ProviderCall(
            model,
            outcome,
            started_at,
            round((time.monotonic() - began) * 1000),
            usage=usage or Usage(sum(answer_tokens(text, model) for text in texts)),
            rate=granted.rate,
            estimated=usage is None,
            kind=EntryKind.EMBEDDING,
            **how,
        )
        budgets.note_overrun(granted.worst, Amount(call.charged, call.usage.input_tokens))
        attempts.note(call)
        book(call)

    try:
        answer = embedders.ask(model, texts)
    except errors.ProviderError as error:
        asked = not isinstance(error, errors.NotConfigured)
        end(
            CallOutcome.FAILED if asked else CallOutcome.SKIPPED,
            None if _may_be_billed(error) else Usage(),
            error=str(error.kind),
            phase=error.phase if isinstance(error, errors.ProviderTimeout) else "",
            status=error.status,
        )
        raise
    end(CallOutcome.COMPLETED, answer.usage)
    return answer.vectors


def _may_be_billed(error: errors.ProviderError) -> bool:
    """Whether the provider has had the request, and did not refuse it."""
    if isinstance(error, errors.ConnectionLost):
        return error.sent
    if isinstance(error, errors.ProviderTimeout):
        return error.phase == "total"
    return isinstance(error, errors.Truncated | errors.MalformedResponse)
