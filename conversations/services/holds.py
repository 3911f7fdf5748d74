"""Holds of attempts that died are given back, once no call of theirs can be under way any more.

A worker that was killed settles nothing. Its reply ends by another attempt, with a hold of its own; what the dead one
held stays until the longest time that a call may take is over, for a worker that was only paused may still be at it.
Then the call that it was held for is booked: the provider was asked, and may bill it. Nobody knows how it ended, so it
is the prompt as it was reckoned and the text that was kept; that is never more than was held.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import structlog
from django.conf import settings
from django.db import connections, router

from billing import plans, pricing
from billing.models import Hold
from billing.services import budgets, clamping
from billing.services.budgets import Account
from billing.services.clamping import NextCall
from billing.services.metering import Rate, Row
from billing.vocabulary import CallOutcome, EntryKind
from chatplatform import tenancy
from chatplatform.jobs import close_connections
from chatplatform.llm.tokens import answer_tokens
from chatplatform.llm.types import ModelRef, Usage
from chatplatform.observability.metrics import BUDGET_RETURNED
from conversations.models import Message, Reply
from conversations.services import attempts
from conversations.services.attempts import ProviderCall
from tenants import selectors as tenants
from tenants.models import Tenant
from tenants.vocabulary import TenantStatus

log = structlog.get_logger("conversations.holds")
SLACK = 30.0  # s from the end of a call's time until nobody can settle it any more
LOST = "worker_lost"  # the ledger's word for how such a call failed
# Its number is found in the same look at the database: who else returns this hold must come to the same.
COLUMNS = """
SELECT hold.reply, hold.attempt, hold.conversation, hold.contact, hold.day, hold.model, hold.input_tokens,
    hold.received_tokens, hold.usd, hold.tokens, hold.taken_at, coalesce(reply.attempt >= hold.attempt, false),
    (SELECT coalesce(max(sequence), 0) + 1 FROM billing_ledgerentry AS entry
        WHERE entry.reply = hold.reply AND entry.attempt = hold.attempt)
FROM billing_hold AS hold LEFT JOIN conversations_reply AS reply ON reply.message_id = hold.reply
"""
DEAD = f"""{COLUMNS}
WHERE (reply.message_id IS NULL OR reply.attempt > hold.attempt OR reply.status NOT IN ('queued', 'generating'))
    AND greatest(hold.taken_at, reply.started_at, reply.completed_at)
        < statement_timestamp() - make_interval(secs => %(seconds)s)
ORDER BY hold.id LIMIT 1000
"""
OF_ATTEMPT = f"{COLUMNS} WHERE hold.reply = %(reply)s AND hold.attempt = %(attempt)s"


@dataclass(frozen=True, slots=True)
class _Dead:
    """A dead attempt's hold, and the call it was for. `begun`: a worker had taken the reply."""

    account: Account
    model: str | None
    input_tokens: int
    received_tokens: int | None
    usd: Decimal
    tokens: int
    taken_at: datetime
    begun: bool
    sequence: int


def return_dead(after: float | None = None) -> int:
    """Give back the dead holds of the current tenant; how many these were. Safe to run twice at once.

    Dead is what belongs to an attempt that is over, `after` seconds since that.
    """
    dead = _dead(after)
    for one in dead:
        budgets.settle(one.account, _lost_calls(one))
    if dead:
        BUDGET_RETURNED.inc(len(dead))
        log.info("dead_holds_returned", holds=len(dead))
    return len(dead)


def _dead(after: float | None = None) -> list[_Dead]:
    return _found(DEAD, {"seconds": settings.TOTAL_TIMEOUT + SLACK if after is None else after})


def return_dead_apart() -> int:
    """`return_dead` for a caller that may be in a transaction: over another connection, if there are any.

    Within the transaction the balances of the tenant would stay locked while it goes on to lock those of a
    conversation, against the order that everybody keeps; and what is counted here could be rolled back.
    """
    using = router.db_for_write(Hold) or "default"
    if not connections[using].in_atomic_block:
        return return_dead()
    if not _dead():
        return 0
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(copy_context().run, _return_and_leave).result()


def _return_and_leave() -> int:
    try:
        return return_dead()
    finally:
        close_connections()


def book_lost(reply: Reply) -> None:
    """Book the call that the last attempt died over, of a reply that is given up now; its hold is given back."""
    for one in _found(OF_ATTEMPT, {"reply": reply.pk, "attempt": reply.attempt}):
        budgets.settle(one.account, _lost_calls(one))


def _found(statement: str, values: dict[str, Any]) -> list[_Dead]:
    with connections[router.db_for_write(Hold) or "default"].cursor() as cursor:
        cursor.execute(statement, values)
        return [_Dead(Account(*row[:5]), *row[5:]) for row in cursor.fetchall()]


def _lost_calls(dead: _Dead) -> list[Row]:
    """The call under way when the worker died, if there can have been one. The provider alone knows how it ended."""
    outside_of_turns = dead.account.conversation is None
    if dead.model is None or not (dead.begun or outside_of_turns):
        return []
    model = ModelRef.parse(dead.model)
    try:
        price = pricing.price(model, dead.input_tokens)
    except pricing.Unpriced:
        log.error("lost_call_unpriced", provider=model.provider, model=model.name)
        return []
    received = dead.received_tokens
    if received is None:
        message = Message.objects.filter(pk=dead.account.reply).first()
        received = answer_tokens(message.content, model) if message else 0
    rate = Rate(price, plans.terms(tenants.state(tenancy.current_tenant().id)).markup_percent)
    room = dead.tokens - dead.input_tokens
    paid_for = clamping.affordable(NextCall(rate, dead.input_tokens, room), dead.usd)
    usage = Usage(dead.input_tokens, output_tokens=max(min(received, room, paid_for), 0))
    call = ProviderCall(
        model, CallOutcome.FAILED, dead.taken_at, 0, error=LOST, usage=usage, rate=rate, estimated=True,
        kind=EntryKind.CALL if room else EntryKind.EMBEDDING,
    )  # fmt: skip
    return [attempts.row(dead.account, dead.sequence if room else attempts.EMBEDDING, call)]


def return_all_dead(after: float | None = None) -> int:
    """The same for all tenants that are served."""
    returned = 0
    with tenancy.in_platform():
        refs = [tenant.ref for tenant in Tenant.objects.exclude(status=TenantStatus.REQUESTED)]
    for tenant in refs:
        try:
            with tenancy.in_tenant(tenant):
                returned += return_dead(after)
        except Exception as error:  # one that is being born or erased must not keep the others waiting
            log.warning("holds_not_returned", slug=tenant.slug, error=type(error).__name__)
    return returned
