"""What the ledger has of calls that end in every way, beside what the provider counts."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest
from django.test.utils import override_settings
from django.utils import timezone

from billing.models import LedgerEntry
from chatplatform import tenancy
from chatplatform.llm.tokens import count_pieces
from chatplatform.testing.simulator import Simulator
from chatplatform.testing.stage import until
from conversations.models import Work
from conversations.services import lease_keeper
from conversations.tests.spending import accepted, generated, ledger, say, total
from tenants.selectors import TenantState

pytestmark = pytest.mark.usefixtures("committed")


STOPPED = 20  # of so many replies, one is
FAULTS = [
    "",
    "",
    "",
    "",
    "drop",
    "truncate",
    "overloaded_inside",
    "malformed",
    "no_usage",
    "stall",
    "error",
    "rate_limit",
]


@pytest.mark.slow
async def test_over_a_thousand_calls_the_ledger_is_what_the_provider_counts(
    simulator: Simulator, tenant: TenantState
) -> None:
    random = Random(4)
    said = [question(number, random) for number in range(1000)]
    calls: dict[str, list[dict[str, Any]]] = {}
    replies: dict[str, UUID] = {}
    for start in range(0, len(said), 250):  # the simulator remembers the last thousand requests
        simulator.control(reset=True)
        part = said[start : start + 250]
        made = await accepted(*[say(text=text, max_tokens=200, model="sim") for text in part])
        replies |= dict(zip(part, made, strict=True))
        for reply in made[::STOPPED]:
            asyncio.get_running_loop().call_later(0.3 + random.random(), stop, reply)
        await asyncio.to_thread(keep_from_others, made)
        # The machine may be busy.
        with override_settings(FIRST_TOKEN_TIMEOUT=20, INTER_TOKEN_TIMEOUT=1.5, LEASE_SECONDS=120):
            await generated(*made)
        await asyncio.to_thread(until, lambda: not simulator.stats()["active"], "the simulator has noticed")
        for request in simulator.requests():
            calls.setdefault(request["body"]["messages"][-1]["content"], []).append(request)
    rows: dict[UUID, list[LedgerEntry]] = {}
    for row in await ledger(*replies.values()):
        rows.setdefault(row.reply, []).append(row)
    assert sum(map(len, rows.values())) == sum(map(len, calls.values())) >= 1000
    estimated = [0, 0]
    for text, reply in replies.items():
        for row, call in zip(rows.get(reply, []), calls.get(text, []), strict=True):
            counted = call["input_tokens"] + call["output_tokens"]
            used = row.input_tokens + row.output_tokens
            if row.estimated:
                estimated[0] += used
                estimated[1] += counted
            elif row.outcome == "completed":
                assert (row.input_tokens, row.output_tokens) == (call["input_tokens"], call["output_tokens"])
            else:
                assert (used, row.status is not None) == (0, True), "a refusal costs nothing"
    assert estimated[1] > 5000
    assert abs(estimated[0] - estimated[1]) <= estimated[1] / 100, estimated
    spent = await total()
    assert spent.tokens == sum(row.input_tokens + row.output_tokens for of in rows.values() for row in of)


def keep_from_others(replies: list[UUID]) -> None:
    """A worker of other tests' would take those that wait here for longer than a lease."""
    with tenancy.in_platform():
        Work.objects.filter(id__in=replies).update(enqueued_at=timezone.now() + timedelta(hours=1))


def question(number: int, random: Random) -> str:
    """What is asked, and how it goes. Those that are stopped are slow: the provider says a few tokens more before it
    hears of it."""
    fault, pace, length = random.choice(FAULTS), random.choice([100, 300, 1000]), random.randint(20, 150)
    if number % STOPPED == 0:
        fault, pace, length = "", 20, 150
    return f"Question {number} [[sim: tokens={length} tps={pace} retry_after=0.01 fault={fault}]]"


def stop(reply: UUID) -> None:
    """Cancel a reply as soon as it has some text, if it does not end before."""
    hold = lease_keeper._holds.get(reply)
    if hold and not hold.writer.text:
        asyncio.get_running_loop().call_later(0.02, stop, reply)
    else:
        lease_keeper._cancel({"reply_id": str(reply)})


async def test_a_cancelled_reply_pays_for_what_was_generated(
    simulator: Simulator, tenant: TenantState
) -> None:
    simulator.control(tps=50)
    [reply] = await accepted(say(max_tokens=500))
    asyncio.get_running_loop().call_later(0.5, stop, reply)
    [ended] = await generated(reply)
    [row] = await ledger(reply)
    await asyncio.to_thread(until, lambda: not simulator.stats()["active"], "the provider was told to stop")
    [call] = [one for one in simulator.requests() if one["path"].endswith("/chat/completions")][-1:]
    assert (ended.status, row.outcome, row.estimated) == ("cancelled", "cancelled", True)
    assert 0 < count_pieces([ended.message.content]) <= row.output_tokens <= call["output_tokens"] < 100
    assert ended.cost_usd == row.charged_usd == (await total()).usd > 0
