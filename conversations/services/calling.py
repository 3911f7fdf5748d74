"""The calls to models that one attempt at a reply makes, and the record of them.

One call is one request to a provider. Before it: the circuit of the model, and a place at the provider. After it:
what it cost, counted or estimated, whatever became of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

import structlog
from django.conf import settings
from django.utils import timezone

from billing.services import budgets
from billing.services.budgets import Amount
from billing.services.clamping import NextCall
from billing.vocabulary import CallOutcome, EntryKind
from chatplatform.llm import errors
from chatplatform.llm.catalog import LOCAL
from chatplatform.llm.errors import ErrorKind
from chatplatform.llm.tokens import estimate_call, utf8_length
from chatplatform.llm.types import (
    Batch,
    CompletionRequest,
    Finished,
    FinishReason,
    ModelRef,
    ReasoningDelta,
    TextDelta,
    Timeouts,
    Usage,
)
from chatplatform.resilience.circuit_breaker import CircuitOpen, Permit
from chatplatform.resilience.deadline import Deadline
from chatplatform.tenancy import current_tenant
from conversations.gateway import config, gateway
from conversations.guards import bulkhead, circuit
from conversations.services import attempts
from conversations.services.attempts import ProviderCall
from conversations.services.spending import Allowance
from conversations.streaming.writer import ReplyWriter
from conversations.vocabulary import ResetReason

log = structlog.get_logger("conversations.calling")
# Failures that speak against the model. A refused request or key is about the request or the key; a 429 is about
# our own rate, and says itself when to come back.
AGAINST_THE_MODEL = {
    ErrorKind.TIMEOUT, ErrorKind.SERVER_ERROR, ErrorKind.OVERLOADED, ErrorKind.CONNECTION_LOST,
    ErrorKind.TRUNCATED, ErrorKind.MALFORMED_RESPONSE,
}  # fmt: skip
NOT_ASKED = (errors.NotUsable, errors.NotConfigured, errors.CircuitOpen, errors.NoPlace, errors.OverBudget)
MOST_BYTES_TO_A_TOKEN = 8  # on average over an answer
HUNG_UP = ("first_token", "inter_token", "total")  # phases of a time-out at which we did not wait any longer


@dataclass(slots=True)
class _Open:
    """The call under way. Times are on the monotonic clock. `texts` pieces of an answer came, `length` bytes in all."""

    model: ModelRef
    granted: NextCall
    permit: Permit | None
    started_at: datetime
    began: float
    heard: bool = False
    first_text: float | None = None
    texts: int = 0
    length: int = 0

    @property
    def is_over(self) -> bool:
        """Whether more came than the call may have. Never too early: a piece is a token at least, and a token has but a
        few bytes."""
        return max(self.texts, self.length // MOST_BYTES_TO_A_TOKEN) > self.granted.max_tokens

    def count(self, event: TextDelta | ReasoningDelta) -> None:
        self.texts += 1
        self.length += utf8_length(event.text)


class Calls:
    """See above. `made` has the calls that are over, in their order; the embedding of the question is among them."""

    def __init__(
        self,
        request: CompletionRequest,
        writer: ReplyWriter,
        deadline: Deadline,
        allowance: Allowance,
        made: list[ProviderCall] | None = None,
    ) -> None:
        self.deadline = deadline
        self.made = [] if made is None else made
        self.first_token_at: datetime | None = None
        self.cut_at: int | None = None  # tokens, where the last answer was shorter than asked for
        self._request, self._writer, self._allowance = request, writer, allowance
        self._open: _Open | None = None

    @property
    def spent(self) -> Usage:
        """All calls together."""
        return attempts.used(self.made)

    @property
    def cost(self) -> Decimal:
        """What the tenant pays, in US dollars."""
        return attempts.cost(self.made)

    @property
    def model(self) -> ModelRef:
        """The model that was asked last."""
        made = (call for call in reversed(self.made) if call.kind == EntryKind.CALL)
        asked = (call.model for call in made if call.outcome != CallOutcome.SKIPPED)
        return self._open.model if self._open else next(asked, ModelRef("", ""))

    async def call(self, model: ModelRef) -> Finished:
        """One call; its text goes to the writer. Raises ProviderError."""
        try:
            if self.deadline.passed:
                raise _total(model)
            if model.provider == LOCAL.provider:
                return await self._watched(model, await self._hold(model), None)
            if not config().is_configured(model.provider):
                raise errors.NotConfigured(provider=model.provider, model=model.name)
            circuit(model).check()  # an open circuit needs no place
            granted = await self._hold(model)
            async with AsyncExitStack() as held:
                await self._take_place(model, held)
                return await self._watched(model, granted, await circuit(model).enter())
        except CircuitOpen as error:
            failure: errors.ProviderError = errors.CircuitOpen(
                provider=model.provider, model=model.name, retry_after=error.retry_after
            )
        except NOT_ASKED as error:
            failure = error
        self._skipped(model, failure)
        raise failure

    def refuse(self, model: ModelRef, detail: str) -> errors.NotUsable:
        """Record that a model is left out; the failure to go on with."""
        failure = errors.NotUsable(detail, provider=model.provider, model=model.name)
        self._skipped(model, failure)
        return failure

    async def _hold(self, model: ModelRef) -> NextCall:
        """The call as the budget allows it. Raises errors.OverBudget."""
        granted = await self._allowance.hold(model, self._request, self.made)
        self.cut_at = granted.max_tokens if granted.max_tokens < (self._request.max_tokens or 0) else None
        return granted

    async def _take_place(self, model: ModelRef, held: AsyncExitStack) -> None:
        """Have a place at the provider until `held` is left."""
        within = self.deadline.at_most(settings.PROVIDER_QUEUE_TIMEOUT)
        try:
            await held.enter_async_context(bulkhead(model.provider).place(current_tenant().id, within))
        except TimeoutError:
            if self.deadline.passed:
                raise _total(model) from None
            raise errors.NoPlace(provider=model.provider, model=model.name) from None

    async def _watched(self, model: ModelRef, granted: NextCall, permit: Permit | None) -> Finished:
        """Make the call, and write down how it ended."""
        if self._writer.text:
            self._writer.restart(ResetReason.FAILOVER)
        self._open = _Open(model, granted, permit, timezone.now(), time.monotonic())
        try:
            finished = await self._stream(self._open)
        except errors.ProviderError as error:
            self._failed(error)
            raise
        except BaseException as error:  # cancelled, or a mistake of ours: the call was made all the same
            cancelled = not isinstance(error, Exception)
            self._close(
                CallOutcome.CANCELLED if cancelled else CallOutcome.FAILED,
                None,
                self._estimate(),
                estimated=True,
                error="" if cancelled else "internal_error",
            )
            raise
        self._close(
            CallOutcome.COMPLETED,
            True,
            self._estimate() if finished.usage_estimated else finished.usage,
            estimated=finished.usage_estimated,
            finish_reason=str(finished.finish_reason),
        )
        return finished

    async def _stream(self, call: _Open) -> Finished:
        timeouts = Timeouts(settings.FIRST_TOKEN_TIMEOUT, settings.INTER_TOKEN_TIMEOUT, self.deadline.left)
        request = replace(self._request, model=call.model, max_tokens=call.granted.max_tokens)
        async with aclosing(gateway().stream_batches(request, timeouts=timeouts)) as batches:
            async for batch in batches:
                if not call.heard:
                    call.heard = True
                    if call.permit:
                        call.permit.answering()
                for place, event in enumerate(batch, start=1):
                    if isinstance(event, Finished):
                        return event
                    if isinstance(event, TextDelta | ReasoningDelta):
                        call.count(event)
                        if call.is_over:
                            return await self._cut(call, batch[place:], batches)
                        if isinstance(event, TextDelta):
                            self._take(call, event.text)
        raise errors.Truncated(provider=call.model.provider, model=call.model.name)

    async def _cut(self, call: _Open, batch: Batch, batches: AsyncIterator[Batch]) -> Finished:
        """The provider says more than it may: nothing more is shown. For a moment the rest is read, for the usage that
        comes at its end; then the provider is told to stop.
        """
        log.warning("answer_cut", provider=call.model.provider, model=call.model.name)
        self.cut_at = call.granted.max_tokens
        ending = None
        with suppress(TimeoutError, errors.ProviderError):
            async with asyncio.timeout(settings.BUDGET_DRAIN_SECONDS):
                ending = await _drained(call, batch, batches)
        return replace(
            ending or Finished(FinishReason.STOP, Usage(), True), finish_reason=FinishReason.LENGTH
        )

    def _take(self, call: _Open, text: str) -> None:
        if call.first_text is None:
            call.first_text = time.monotonic()
            self.first_token_at = self.first_token_at or timezone.now()
        self._writer.add(text)

    def _failed(self, error: errors.ProviderError) -> None:
        """What was received is billed; so is a prompt that was sent and whose answer never came, or was not waited for.
        A refusal is not."""
        call = self._open
        assert call is not None
        phase = error.phase if isinstance(error, errors.ProviderTimeout) else ""
        billed = call.heard or phase in HUNG_UP or _broken_off(error)
        against = error.kind in AGAINST_THE_MODEL and phase != "total"
        if call.permit and not against and error.status is not None:
            call.permit.answering()
        self._close(
            CallOutcome.FAILED,
            False if against else None,
            self._estimate() if billed else Usage(),
            estimated=billed,
            error=str(error.kind),
            phase=phase,
            status=error.status,
        )

    def _close(
        self,
        outcome: CallOutcome,
        good: bool | None,
        usage: Usage,
        *,
        estimated: bool,
        error: str = "",
        phase: str = "",
        status: int | None = None,
        finish_reason: str = "",
    ) -> None:
        call, self._open = self._open, None
        assert call is not None
        if call.permit:
            call.permit.end(good)
        now = time.monotonic()
        made = ProviderCall(
            model=call.model,
            outcome=outcome,
            started_at=call.started_at,
            total_ms=_milliseconds(now - call.began),
            first_token_ms=None if call.first_text is None else _milliseconds(call.first_text - call.began),
            error=error,
            phase=phase,
            status=status,
            finish_reason=finish_reason,
            usage=usage,
            rate=self._allowance.rate(call.model, usage.input_tokens),
            estimated=estimated,
        )
        worst = call.granted.worst
        budgets.note_overrun(worst, Amount(made.charged, usage.input_tokens + usage.output_tokens))
        self._keep(made)

    def _skipped(self, model: ModelRef, error: errors.ProviderError) -> None:
        self._keep(ProviderCall(model, CallOutcome.SKIPPED, timezone.now(), 0, error=str(error.kind)))

    def _keep(self, call: ProviderCall) -> None:
        self.made.append(call)
        attempts.note(call)

    def _estimate(self) -> Usage:
        """What was sent, and what has been received since."""
        call = self._open
        assert call is not None
        return estimate_call(self._request, call.model, call.texts, call.length)


async def _drained(call: _Open, batch: Batch | None, batches: AsyncIterator[Batch]) -> Finished | None:
    """The end of an answer, if it comes before too much more of it does."""
    most = call.texts + settings.BUDGET_DRAIN_TOKENS
    while batch is not None and call.texts <= most:
        for event in batch:
            if isinstance(event, Finished):
                return event
            if isinstance(event, TextDelta | ReasoningDelta):
                call.count(event)
        batch = await anext(batches, None)
    return None


def _broken_off(error: errors.ProviderError) -> bool:
    """Whether the provider has had the request, and may bill the prompt, though it answered nothing."""
    return isinstance(error, errors.Truncated) or (isinstance(error, errors.ConnectionLost) and error.sent)


def _total(model: ModelRef) -> errors.ProviderTimeout:
    failure = errors.ProviderTimeout("total deadline", provider=model.provider, model=model.name)
    failure.phase = "total"
    return failure


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
