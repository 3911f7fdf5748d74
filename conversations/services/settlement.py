"""The end of a reply: one statement that only the newest attempt passes, then the last event."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.utils import timezone

from billing import pricing
from billing.services import budgets, thresholds
from chatplatform import jobs
from chatplatform.llm.types import ModelRef, Usage
from chatplatform.tenancy import current_tenant
from conversations import selectors
from conversations.models import Reply
from conversations.services import attempts, statements
from conversations.services.attempts import ProviderCall
from conversations.vocabulary import ReplyStatus
from tenants import selectors as tenants
from tenants import throttling


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a reply ended. `text` is what was shown; `cost` is what the tenant pays, in US dollars."""

    status: ReplyStatus
    text: str = ""
    finish_reason: str = ""
    model: ModelRef = ModelRef("", "")
    usage: Usage = Usage()
    cost: Decimal = Decimal(0)
    sources: list[dict[str, Any]] = field(default_factory=list)
    degraded: bool = False
    notice: str = ""
    error_code: str = ""
    error_detail: str = ""
    configuration: int | None = None
    first_token_at: datetime | None = None
    calls: list[ProviderCall] = field(default_factory=list)


async def settle(reply: Reply, outcome: Outcome) -> dict[str, Any] | None:
    """Write the end of a reply; its public shape, or None if a newer attempt has taken over (nothing is written).

    `reply` is as its attempt began, and becomes what it ended as; its row is not read again.
    """
    reply.status = outcome.status
    reply.finish_reason = outcome.finish_reason
    reply.model, reply.provider = outcome.model.name, outcome.model.provider
    reply.input_tokens = outcome.usage.input_tokens
    reply.cached_input_tokens = outcome.usage.cached_input_tokens
    reply.cache_write_input_tokens = outcome.usage.cache_write_input_tokens
    reply.output_tokens = outcome.usage.output_tokens
    reply.cost_usd = pricing.exact(outcome.cost)
    reply.sources, reply.degraded, reply.notice = outcome.sources, outcome.degraded, outcome.notice
    reply.error_code, reply.error_detail = outcome.error_code, outcome.error_detail
    reply.configuration = outcome.configuration
    reply.first_token_at, reply.completed_at = outcome.first_token_at, timezone.now()
    account = attempts.account(reply)
    settled = await statements.settle(reply, outcome.text, account, attempts.rows(account, outcome.calls))
    if settled is None:
        return None
    state = await jobs.here_or_in_thread(tenants.state, current_tenant().id)
    limits = budgets.limits_of(state)
    if thresholds.untold(account.day, limits, settled):
        await jobs.in_thread(thresholds.note, account.day, limits, settled)
    if throttling.counts_tokens(state):
        tokens = outcome.usage.input_tokens + outcome.usage.output_tokens
        await jobs.in_thread(throttling.correct, state, reply.pk, tokens)
    return selectors.reply_as_json(reply, outcome.text)
