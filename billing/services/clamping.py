"""How long an answer may be where the budget has not room for the longest: as long as what is left pays for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, TypeVar

from django.conf import settings

from billing.services import budgets, thresholds
from billing.services.budgets import Account, Amount, Limits, OverBudget
from billing.services.metering import Rate
from billing.vocabulary import BudgetLevel, BudgetLimit
from chatplatform.api.problem import Code, Problem
from chatplatform.observability.metrics import BUDGET_REFUSED

T = TypeVar("T")
TRIES = 5  # others take from what is left at the same time
BOUNDLESS = 10**12  # tokens
NEVER_USED = budgets.NOTHING, budgets.NOTHING
SHOWN = {
    BudgetLevel.CONVERSATION: "conversation",
    BudgetLevel.CONTACT_MONTH: "user",
    BudgetLevel.TENANT_DAY: "tenant",
    BudgetLevel.TENANT_MONTH: "tenant",
}
WHOSE = {
    BudgetLevel.CONVERSATION: "The budget of this conversation",
    BudgetLevel.CONTACT_MONTH: "Your budget for this month",
    BudgetLevel.TENANT_DAY: "This tenant's budget for today",
    BudgetLevel.TENANT_MONTH: "This tenant's budget for this month",
}


@dataclass(frozen=True, slots=True)
class NextCall:
    """A call that is about to be made: what it costs, and how many tokens it can take at most. `before` is the worst
    case of what has to be asked first, another model (the embedding of the question)."""

    rate: Rate
    input_tokens: int
    max_tokens: int
    before: Amount = budgets.NOTHING

    @property
    def worst(self) -> Amount:
        usd = self.rate.worst(self.input_tokens, self.max_tokens)
        return Amount(usd + self.before.usd, self.input_tokens + self.max_tokens + self.before.tokens)


@dataclass(frozen=True, slots=True)
class _Room:
    """How many tokens an answer may have by one limit."""

    tokens: int
    level: BudgetLevel
    limit: Decimal | int
    spent: Decimal | int
    held: Decimal | int

    @property
    def of_tenant(self) -> BudgetLimit | None:
        """Which of the tenant's own limits this is; None for a conversation's or an end user's."""
        if self.level == BudgetLevel.TENANT_DAY:
            return BudgetLimit.DAILY_COST
        if self.level == BudgetLevel.TENANT_MONTH:
            return BudgetLimit.MONTHLY_COST if isinstance(self.limit, Decimal) else BudgetLimit.MONTHLY_TOKENS
        return None


def take(
    hold: Callable[[NextCall], T],
    call: NextCall,
    account: Account,
    limits: Limits,
    *,
    free: Callable[[], int],
    mine: Amount = budgets.NOTHING,
) -> tuple[T, NextCall]:
    """Hold what a call can cost, or what a shorter answer can; what `hold` gave, and the call as it may be made.

    `hold` raises OverBudget; `free` gives back the holds of the dead and says how many these were; `mine` is what
    the new hold replaces. Raises Problem `budget_exceeded` where not even a useful minimum is left.
    """
    wanted, tightest = call, None
    freed = False
    for _ in range(TRIES):
        try:
            return hold(wanted), wanted
        except OverBudget:
            if not freed:
                freed = True
                if free():
                    continue
            tightest = _tightest(call, account, limits, mine)
            if tightest.tokens < _least(call):
                break
            wanted = replace(call, max_tokens=min(call.max_tokens, tightest.tokens))
    assert tightest is not None
    BUDGET_REFUSED.labels(SHOWN[tightest.level]).inc()
    if limit := tightest.of_tenant:
        thresholds.note_refusal(limit, account.day, tightest.spent, tightest.limit)
    raise _problem(tightest)


def _least(call: NextCall) -> int:
    if not settings.BUDGET_CLAMP:
        return call.max_tokens
    return min(call.max_tokens, max(settings.BUDGET_MIN_TOKENS, 1))


def _tightest(call: NextCall, account: Account, limits: Limits, mine: Amount) -> _Room:
    found = budgets.standings(account)
    rooms = []
    for level, limit in (
        (BudgetLevel.CONVERSATION, limits.conversation),
        (BudgetLevel.CONTACT_MONTH, limits.contact_month if account.contact else None),
        (BudgetLevel.TENANT_DAY, limits.tenant_day),
        (BudgetLevel.TENANT_MONTH, limits.tenant_month),
    ):
        if limit is not None:
            spent, held = found.get(level, NEVER_USED)
            left = limit - spent.usd - held.usd + mine.usd - call.before.usd
            rooms.append(_Room(affordable(call, left), level, limit, spent.usd, held.usd))
    if limits.tenant_month_tokens is not None:
        most = limits.tenant_month_tokens
        spent, held = found.get(BudgetLevel.TENANT_MONTH, NEVER_USED)
        left_tokens = most - spent.tokens - held.tokens + mine.tokens
        room = left_tokens - call.input_tokens - call.before.tokens
        rooms.append(_Room(room, BudgetLevel.TENANT_MONTH, most, spent.tokens, held.tokens))
    return min(rooms, key=lambda room: room.tokens)


def affordable(call: NextCall, left: Decimal) -> int:
    """How many tokens of an answer so many dollars pay for, beside the prompt; negative if not even that."""
    rate, prompt = call.rate, call.input_tokens
    if rate.worst(prompt, call.max_tokens) <= max(left, Decimal(0)):
        return BOUNDLESS
    if rate.worst(prompt, 0) > left:
        return -1
    # The cost is a straight line but for its rounding up, so the division is out by a token at most.
    million = rate.worst(0, 1_000_000)
    room = int((left - rate.worst(prompt, 0)) * 1_000_000 / million) if million else 0
    while room > 0 and rate.worst(prompt, room) > left:
        room -= 1
    return room


def _problem(room: _Room) -> Problem:
    money = isinstance(room.limit, Decimal)

    def shown(value: Decimal | int) -> Any:
        return f"{value:f}" if money else value

    def told(value: Decimal | int) -> str:
        return f"${value.normalize():f}" if isinstance(value, Decimal) else f"{value:,} tokens"

    detail = f"{WHOSE[room.level]} is {told(room.limit)}; {told(room.spent)} spent"
    if room.held:
        detail += f", {told(room.held)} held for replies under way"
    more = {"level": SHOWN[room.level], "limit": shown(room.limit), "spent": shown(room.spent)}
    return Problem(Code.BUDGET_EXCEEDED, f"{detail}.", **more)
