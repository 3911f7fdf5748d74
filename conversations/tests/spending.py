"""A tenant of its own whose turns are accepted by many threads at once and generated here, from the simulator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connections
from django.test.utils import override_settings

from billing.models import Balance, BudgetNotice, Hold, LedgerEntry
from billing.services import thresholds
from billing.services.budgets import Amount
from billing.vocabulary import BudgetLevel
from chatplatform import jobs, tenancy
from chatplatform.api.problem import Problem
from chatplatform.testing.simulator import Simulator, running_simulator
from conversations import gateway
from conversations.models import Reply, Work
from conversations.services import (
    conversations,
    generation,
    turns,
)
from conversations.services.turns import Options
from tenants import selectors
from tenants.auth.principal import Principal
from tenants.selectors import TenantState
from tenants.services import configuration, lifecycle, provisioning

KEY = Principal("key:test", frozenset({"chat"}), None)
MODEL = "gpt-4o"
LONGEST = 40  # tokens of an answer
EARLIER = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def shared() -> Iterator[Simulator]:
    with running_simulator() as simulator:
        yield simulator


@pytest.fixture(scope="module")
def tenant(django_db_setup: None, django_db_blocker: pytest.FixtureRequest) -> Iterator[TenantState]:
    """A tenant of these tests' own: what they spend stays."""
    with django_db_blocker.unblock():  # type: ignore[attr-defined]
        slug = f"initech-{uuid4().hex[:6]}"
        made, _, _ = provisioning.request_tenant("Initech", slug)
        provisioning.provision(made.id)
        yield selectors.tenant_by_slug(slug)
        lifecycle.erase(slug)


@pytest.fixture
async def simulator(
    shared: Simulator, tenant: TenantState, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Simulator]:
    """A gateway to the simulator, whose answers are as long as they may be, inside the tenant. No job is sent."""
    monkeypatch.setattr(jobs, "enqueue", lambda *_, **__: True)
    monkeypatch.setattr(jobs, "packed", lambda *_, **__: None)
    shared.control(reset=True, tokens=1000)
    installation = override_settings(
        OPENAI_API_KEY="simulated", OPENAI_BASE_URL=shared.openai_url, ANTHROPIC_API_KEY="simulated",
        ANTHROPIC_BASE_URL=shared.anthropic_url, PROVIDER_RETRY_PAUSE=0.01, BREAKER_LEAST_CALLS=1000,
        FIRST_TOKEN_TIMEOUT=1.0, INTER_TOKEN_TIMEOUT=0.5, PROVIDER_TRIES=2,
    )  # fmt: skip
    with installation, tenancy.in_tenant(tenant.ref):
        gateway.config.cache_clear()
        await asyncio.to_thread(gateway.gateway().warm_up)
        await asyncio.to_thread(start_afresh, tenant)
        yield shared
        await gateway.gateway().aclose()
    gateway.config.cache_clear()


def start_afresh(tenant: TenantState) -> None:
    Balance.objects.all().delete()
    Hold.objects.all().delete()
    BudgetNotice.objects.all().delete()
    thresholds._told.clear()
    limit(tenant)
    connections.close_all()


def limit(tenant: TenantState, **limits: Any) -> None:
    """The tenant's limits: these, and no others."""
    none = dict.fromkeys(
        "monthly_token_budget monthly_cost_budget_usd daily_cost_budget_usd conversation_cost_budget_usd"
        " user_monthly_cost_budget_usd".split()
    )
    configuration.change(tenant.ref, {**none, **limits}, author="test", by_staff=True)


def in_threads(calls: list[Callable[[], Any]], at_once: int = 16) -> list[Any]:
    """What each call gives, or the Problem that it raises, made in threads of their own inside the tenant."""
    ref = tenancy.current_tenant()

    def run(call: Callable[[], Any]) -> Any:
        try:
            with tenancy.in_tenant(ref):
                return call()
        except Problem as problem:
            return problem
        finally:
            jobs.close_connections()

    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(run, calls))


def say(
    conversation: UUID | None = None, text: str = "Hello", max_tokens: int = LONGEST, **begin: Any
) -> Callable[[], UUID]:
    """Accepts a message, in a conversation of its own if none is given; its reply's id."""

    def accept() -> UUID:
        where = conversation or conversations.begin(**{"model": MODEL, **begin}).pk
        return turns.accept(KEY, where, text, options=Options(max_tokens=max_tokens)).reply_id

    return accept


async def accepted(*calls: Callable[[], Any]) -> list[Any]:
    return await asyncio.to_thread(in_threads, list(calls))


async def generated(*replies: UUID) -> list[Reply]:
    """These replies, after a worker has had them."""
    await asyncio.gather(*map(generation.generate, replies))
    return await stored(*replies)


async def stored(*replies: UUID) -> list[Reply]:
    def load() -> list[Reply]:
        found = Reply.objects.select_related("message", "conversation").in_bulk(replies)
        return [found[one] for one in replies]

    return await jobs.in_thread(load)


async def hold_of(conversation_text: str = "Hello") -> Amount:
    """What is held for such a message, by accepting one."""
    [reply] = await accepted(say(text=conversation_text))
    [row] = await jobs.in_thread(lambda: list(Hold.objects.filter(reply=reply)))
    await generated(reply)
    return Amount(row.usd, row.tokens)


async def total() -> Amount:
    """Spent in the month. Nothing is held, and all balances agree with the ledger."""

    def read() -> Amount:
        assert not Hold.objects.exists()
        spent = {row.level: row for row in Balance.objects.exclude(level=BudgetLevel.CONVERSATION)}
        assert all(row.held_usd == row.held_tokens == 0 for row in Balance.objects.all())
        month = spent[BudgetLevel.TENANT_MONTH]
        return Amount(month.spent_usd, month.spent_tokens)

    return await jobs.in_thread(read)


async def ledger(*replies: UUID) -> list[LedgerEntry]:
    rows = LedgerEntry.objects.filter(reply__in=replies).order_by("reply", "attempt", "sequence")
    return await jobs.in_thread(lambda: list(rows))


def expire_lease(reply: UUID, to: datetime | None = EARLIER) -> None:
    with tenancy.in_platform():
        Work.objects.filter(id=reply).update(lease_expires_at=to)
