"""What a reply may spend: the hold for its first call, taken when its message is accepted, and what its attempts hold
before each further one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from billing import plans, pricing
from billing.pricing import Prices
from billing.services import budgets, clamping
from billing.services.budgets import Account, Amount, Held, Limits
from billing.services.clamping import NextCall
from billing.services.metering import Rate
from billing.vocabulary import EntryKind
from chatplatform import jobs
from chatplatform.api.problem import Problem
from chatplatform.llm import errors
from chatplatform.llm.tokens import most_in_prompt
from chatplatform.llm.types import CompletionRequest, ModelRef
from conversations.prompts.build import HISTORY_CHARACTERS, PASSAGES, PASSAGES_INTRODUCTION
from conversations.rag.chunking import CHUNK_CHARACTERS
from conversations.services import attempts, embedding, holds
from conversations.services.access import Speaking
from conversations.services.attempts import ProviderCall
from tenants.selectors import TenantState

# Of what was said before and of passages still to be found, admission knows the lengths alone: bytes to a token, so
# that prose is not underrated. The worker counts the whole prompt, and holds more where that was too little.
BYTES_TO_A_TOKEN = 3
HEADING_CHARACTERS = 100
PER_MESSAGE = 8


def first_call(
    state: TenantState, speaking: Speaking, text: str, model: ModelRef, max_tokens: int | None
) -> NextCall:
    """The first call for a reply to be, as far as it is known when its message comes. Raises Unpriced."""
    configuration = state.configuration
    system = (speaking.system_prompt or configuration.system_prompt).replace("{tenant}", state.name)
    tokens = most_in_prompt([system, text], model) + _history(speaking)
    if speaking.knows:
        tokens += _of_bytes(PASSAGES * (CHUNK_CHARACTERS + HEADING_CHARACTERS) + len(PASSAGES_INTRODUCTION))
    most = configuration.max_tokens_per_response
    markup = plans.terms(state).markup_percent
    rate = Rate(pricing.price(model, tokens), markup)
    before = embedding.worst_of_question(text, markup) if speaking.knows else budgets.NOTHING
    return NextCall(rate, tokens, min(max_tokens or most, most), before)


def _history(speaking: Speaking) -> int:
    return _of_bytes(min(speaking.bytes, HISTORY_CHARACTERS)) + PER_MESSAGE * speaking.messages


def _of_bytes(length: int) -> int:
    return -(-length // BYTES_TO_A_TOKEN)


class Allowance:
    """What one attempt at a reply may spend. Belongs to the event loop; holds are taken in threads.

    If the first call of an attempt, with the embedding before it, is within what is held, nothing is asked of the
    database: that is how almost all replies go. Before each further call those that are over are booked, and the hold
    is that call's: so it says what is under way, and if this worker dies the right call is booked.
    """

    def __init__(
        self, account: Account, limits: Limits, prices: Prices, markup_percent: Any, held: Amount
    ) -> None:
        self._account, self._limits, self._held = account, limits, held
        self._prices, self._markup = prices, markup_percent
        self._booked = 0  # calls that the ledger has

    def rate(self, model: ModelRef, input_tokens: int = 0) -> Rate:
        """What a call with so long a prompt costs. Raises Unpriced."""
        return Rate(self._prices.price(model, input_tokens), self._markup)

    async def hold(
        self, model: ModelRef, request: CompletionRequest, made: Sequence[ProviderCall]
    ) -> NextCall:
        """Have enough held for a call, or for a shorter answer; the call as it may be made. `made` are the calls of
        this attempt so far. Raises errors.OverBudget.
        """
        texts = [request.system, *(message.content for message in request.messages)]
        tokens = most_in_prompt(texts, model)
        assert request.max_tokens is not None, "there is no worst case without it"
        call = NextCall(self.rate(model, tokens), tokens, request.max_tokens)
        spent = _spent(made[self._booked :])
        if self._covers(call, spent) and not any(one.kind == EntryKind.CALL for one in made):
            return call
        holding = asyncio.ensure_future(jobs.in_thread(self._hold, model, call, list(made), spent))
        try:
            return await asyncio.shield(holding)
        except asyncio.CancelledError:
            # The thread goes on, and what it holds after the settlement nobody would give back for minutes.
            with suppress(Exception):
                await asyncio.shield(holding)
            raise
        except Problem as problem:
            raise errors.OverBudget(problem.detail, provider=model.provider, model=model.name) from problem

    def hold_embedding(self, model: ModelRef, tokens: int, made: Sequence[ProviderCall]) -> NextCall:
        """The same for the embedding of the question, before all calls. For a thread. Raises Unpriced too."""
        call = NextCall(self.rate(model, tokens), tokens, 0)
        try:
            return call if self._covers(call) else self._hold(model, call, list(made), budgets.NOTHING)
        except Problem as problem:
            raise errors.OverBudget(problem.detail, provider=model.provider, model=model.name) from problem

    def _covers(self, call: NextCall, spent: Amount = budgets.NOTHING) -> bool:
        """Whether what is held is enough for a call beside what was spent of it."""
        worst = call.worst
        return worst.usd + spent.usd <= self._held.usd and worst.tokens + spent.tokens <= self._held.tokens

    def _hold(self, model: ModelRef, call: NextCall, made: list[ProviderCall], spent: Amount) -> NextCall:
        entries = attempts.rows(self._account, made)
        mine = Amount(self._held.usd - spent.usd, self._held.tokens - spent.tokens)

        def hold(wanted: NextCall) -> None:
            held = Held(model, wanted.input_tokens)
            budgets.hold_again(self._account, entries, wanted.worst, self._limits, held)

        _, granted = clamping.take(hold, call, self._account, self._limits, free=holds.return_dead, mine=mine)
        self._held, self._booked = granted.worst, len(made)
        return granted


def allowance(state: TenantState, account: Account, prices: Prices, held: Amount) -> Allowance:
    """What an attempt may spend under a tenant's configuration and terms."""
    limits = budgets.limits_of(state)
    return Allowance(account, limits, prices, plans.terms(state).markup_percent, held)


def _spent(calls: Sequence[ProviderCall]) -> Amount:
    used = attempts.used(calls)
    return Amount(attempts.cost(calls), used.input_tokens + used.output_tokens)
