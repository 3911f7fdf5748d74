"""The end of a reply: one transaction that only the newest attempt passes, then the last event."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from chatplatform.llm.types import ModelRef, Usage
from conversations import selectors
from conversations.models import Message, Reply
from conversations.services import leases
from conversations.vocabulary import RUNNING, ReplyStatus


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a reply ended. `text` is what was shown; `cost` is in US dollars."""

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


def settle(reply_id: UUID, attempt: int, outcome: Outcome) -> dict[str, Any] | None:
    """Write the end of a reply; its public shape, or None if a newer attempt has taken over (nothing is written)."""
    with transaction.atomic():
        written = Reply.objects.filter(pk=reply_id, attempt=attempt, status__in=RUNNING).update(
            status=outcome.status,
            finish_reason=outcome.finish_reason,
            model=outcome.model.name,
            provider=outcome.model.provider,
            input_tokens=outcome.usage.input_tokens,
            cached_input_tokens=outcome.usage.cached_input_tokens,
            cache_write_input_tokens=outcome.usage.cache_write_input_tokens,
            output_tokens=outcome.usage.output_tokens,
            cost_usd=outcome.cost,
            sources=outcome.sources,
            degraded=outcome.degraded,
            notice=outcome.notice,
            error_code=outcome.error_code,
            error_detail=outcome.error_detail,
            configuration=outcome.configuration,
            first_token_at=outcome.first_token_at,
            completed_at=timezone.now(),
        )
        if not written:
            return None
        Message.objects.filter(pk=reply_id).update(content=outcome.text)
        reply = Reply.objects.select_related("message").get(pk=reply_id)
        leases.settled(reply_id)
    return selectors.reply_as_json(reply)


def checkpoint(reply_id: UUID, attempt: int, text: str) -> None:
    """Keep the text so far, for readers who come when the event log is gone. A stale attempt writes nothing."""
    with transaction.atomic():
        # The reply's row is locked: a settlement that comes between the look and the write would be overwritten.
        current = Reply.objects.select_for_update().filter(
            pk=reply_id, attempt=attempt, status=ReplyStatus.GENERATING
        )
        if current.first():
            Message.objects.filter(pk=reply_id).update(content=text)
