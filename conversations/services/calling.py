"""The calls to models that one attempt at a reply makes, and the record of them.

One call is one request to a provider. Before it: the circuit of the model, and a place at the provider. After it:
what it cost, counted or estimated, whatever became of it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

import structlog
from django.conf import settings
from django.utils import timezone

from billing import pricing
from chatplatform.llm import errors
from chatplatform.llm.catalog import LOCAL
from chatplatform.llm.errors import ErrorKind
from chatplatform.llm.tokens import estimate_prompt, estimate_tokens
from chatplatform.llm.types import CompletionRequest, Finished, ModelRef, TextDelta, Timeouts, Usage
from chatplatform.observability import metrics
from chatplatform.resilience.circuit_breaker import CircuitOpen, Permit
from chatplatform.resilience.deadline import Deadline
from chatplatform.tenancy import current_tenant
from conversations.gateway import config, gateway
from conversations.guards import bulkhead, circuit
from conversations.services.attempts import ProviderCall
from conversations.streaming.writer import ReplyWriter
from conversations.vocabulary import CallOutcome, ResetReason

log = structlog.get_logger("conversations.calling")
# Failures that speak against the model. A refused request or key is about the request or the key; a 429 is about
# our own rate, and says itself when to come back.
AGAINST_THE_MODEL = {
    ErrorKind.TIMEOUT, ErrorKind.SERVER_ERROR, ErrorKind.OVERLOADED, ErrorKind.CONNECTION_LOST,
    ErrorKind.TRUNCATED, ErrorKind.MALFORMED_RESPONSE,
}  # fmt: skip
NOT_ASKED = (errors.NotConfigured, errors.CircuitOpen, errors.NoPlace)
HUNG_UP = ("first_token", "inter_token", "total")  # phases of a time-out at which we did not wait any longer


@dataclass(slots=True)
class _Open:
    """The call under way. Times are on the monotonic clock."""

    model: ModelRef
    permit: Permit | None
    started_at: datetime
    began: float
    heard: bool = False
    first_text: float | None = None


class Calls:
    """See above. `made` has the calls that are over, in their order."""

    def __init__(self, request: CompletionRequest, writer: ReplyWriter, deadline: Deadline) -> None:
        self.deadline = deadline
        self.made: list[ProviderCall] = []
        self.first_token_at: datetime | None = None
        self._request, self._writer = request, writer
        self._open: _Open | None = None

    @property
    def spent(self) -> Usage:
        """All calls together."""
        return sum((call.usage for call in self.made), Usage())

    @property
    def cost(self) -> Decimal:
        """US dollars: each call at its own model's price."""
        return sum((call.cost for call in self.made), Decimal(0))

    @property
    def model(self) -> ModelRef:
        """The model that was asked last."""
        asked = (call.model for call in reversed(self.made) if call.outcome != CallOutcome.SKIPPED)
        return self._open.model if self._open else next(asked, ModelRef("", ""))

    async def call(self, model: ModelRef) -> Finished:
        """One call; its text goes to the writer. Raises ProviderError."""
        try:
            if self.deadline.passed:
                raise _total(model)
            if model.provider == LOCAL.provider:
                return await self._watched(model, None)
            if not config().is_configured(model.provider):
                raise errors.NotConfigured(provider=model.provider, model=model.name)
            circuit(model).check()  # an open circuit needs no place
            async with self._place(model):
                return await self._watched(model, await circuit(model).enter())
        except CircuitOpen as error:
            failure: errors.ProviderError = errors.CircuitOpen(
                provider=model.provider, model=model.name, retry_after=error.retry_after
            )
        except NOT_ASKED as error:
            failure = error
        self._skipped(model, failure)
        raise failure

    @asynccontextmanager
    async def _place(self, model: ModelRef) -> AsyncIterator[None]:
        """A place at the provider inside the block."""
        within = self.deadline.at_most(settings.PROVIDER_QUEUE_TIMEOUT)
        async with AsyncExitStack() as held:
            try:
                place = bulkhead(model.provider).place(current_tenant().id, within)
                await held.enter_async_context(place)
            except TimeoutError:
                if self.deadline.passed:
                    raise _total(model) from None
                raise errors.NoPlace(provider=model.provider, model=model.name) from None
            yield

    async def _watched(self, model: ModelRef, permit: Permit | None) -> Finished:
        """Make the call, and write down how it ended."""
        if self._writer.text:
            self._writer.restart(ResetReason.FAILOVER)
        self._open = _Open(model, permit, timezone.now(), time.monotonic())
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
            finished.usage,
            estimated=finished.usage_estimated,
            finish_reason=str(finished.finish_reason),
        )
        return finished

    async def _stream(self, call: _Open) -> Finished:
        timeouts = Timeouts(settings.FIRST_TOKEN_TIMEOUT, settings.INTER_TOKEN_TIMEOUT, self.deadline.left)
        request = replace(self._request, model=call.model)
        async with aclosing(gateway().stream_batches(request, timeouts=timeouts)) as batches:
            async for batch in batches:
                if not call.heard:
                    call.heard = True
                    if call.permit:
                        call.permit.answering()
                for event in batch:
                    if isinstance(event, TextDelta):
                        self._take(call, event.text)
                    elif isinstance(event, Finished):
                        return event
        raise errors.Truncated(provider=call.model.provider, model=call.model.name)

    def _take(self, call: _Open, text: str) -> None:
        if call.first_text is None:
            call.first_text = time.monotonic()
            self.first_token_at = self.first_token_at or timezone.now()
        self._writer.add(text)

    def _failed(self, error: errors.ProviderError) -> None:
        """What was received is billed; so is a prompt whose answer we did not wait for. A refusal is not."""
        call = self._open
        assert call is not None
        phase = error.phase if isinstance(error, errors.ProviderTimeout) else ""
        billed = call.heard or phase in HUNG_UP
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
            cost=pricing.cost(call.model, usage),
            estimated=estimated,
        )
        self._keep(made)

    def _skipped(self, model: ModelRef, error: errors.ProviderError) -> None:
        self._keep(ProviderCall(model, CallOutcome.SKIPPED, timezone.now(), 0, error=str(error.kind)))

    def _keep(self, call: ProviderCall) -> None:
        self.made.append(call)
        labels = call.model.provider, metrics.model_label(call.model.name)
        metrics.CALLS.labels(*labels, call.error or str(call.outcome)).inc()
        if call.outcome != CallOutcome.SKIPPED:
            metrics.CALL_SECONDS.labels(*labels).observe(call.total_ms / 1000)
        if call.first_token_ms is not None:
            metrics.FIRST_TOKEN.labels(*labels).observe(call.first_token_ms / 1000)

    def _estimate(self) -> Usage:
        """What was sent, and what has been received since."""
        return Usage(
            input_tokens=estimate_prompt(self._request), output_tokens=estimate_tokens(self._writer.text)
        )


def _total(model: ModelRef) -> errors.ProviderTimeout:
    failure = errors.ProviderTimeout("total deadline", provider=model.provider, model=model.name)
    failure.phase = "total"
    return failure


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
