"""Dead holds that are given back while a message with an Idempotency-Key, which is in a transaction, is accepted."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from decimal import Decimal
from threading import Event
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, transaction
from django.test.utils import override_settings
from django.utils import timezone

from billing.models import NOBODY, Balance, Hold
from billing.vocabulary import BudgetLevel
from chatplatform import jobs
from chatplatform.api.problem import Problem
from chatplatform.observability.metrics import BUDGET_RETURNED
from chatplatform.testing.simulator import Simulator
from chatplatform.testing.stage import until
from conversations.models import Conversation
from conversations.services import conversations, holds
from conversations.tests.spending import MODEL, in_threads, limit, say
from tenants.models import Contact
from tenants.selectors import TenantState

pytestmark = pytest.mark.usefixtures("committed")
WAITING = """SELECT EXISTS (SELECT FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid)))"""


def one_dead(tenant: TenantState, times: str) -> tuple[Conversation, Decimal]:
    """An end user's conversation, somebody's dead hold, how much that is, and a month's budget of so many of it."""
    begun = conversations.begin(model=MODEL, contact=Contact.objects.create())
    say(begun.pk)()
    held = Hold.objects.get()
    begun.delete()
    Hold.objects.update(taken_at=timezone.now() - timedelta(hours=1))
    limit(tenant, monthly_cost_budget_usd=(held.usd * Decimal(times)).quantize(Decimal("0.000001")))
    contact = Contact.objects.create()
    month = held.day.replace(day=1)
    Balance.objects.create(level=BudgetLevel.CONTACT_MONTH, subject=contact.pk, period=month)
    return conversations.begin(model=MODEL, contact=contact), held.usd


def accept(conversation: UUID) -> None:
    with transaction.atomic():
        say(conversation)()


def lock(level: BudgetLevel, subject: Any = NOBODY) -> None:
    assert Balance.objects.select_for_update().filter(level=level, subject=subject).exists()


async def test_whoever_settles_meanwhile_locks_nobody_out(
    simulator: Simulator, tenant: TenantState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A settlement has the end user's balance when the message wants it, and goes on to the tenant's."""
    returned, settling = Event(), Event()

    def return_first() -> int:
        found = give_back()
        returned.set()
        assert settling.wait(10)
        return found

    def settle() -> None:
        assert returned.wait(10)
        with transaction.atomic():
            lock(BudgetLevel.CONTACT_MONTH, where.contact_id)
            settling.set()
            until(someone_waits, "the message waits for it")
            lock(BudgetLevel.TENANT_DAY)

    give_back = holds.return_dead_apart
    monkeypatch.setattr(holds, "return_dead_apart", return_first)
    where, held = await jobs.in_thread(one_dead, tenant, "1.5")
    with override_settings(BUDGET_CLAMP=False):
        await asyncio.to_thread(in_threads, [lambda: accept(where.pk), settle])
    assert await jobs.in_thread(lambda: [row.usd for row in Hold.objects.all()]) == [held]


def someone_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [(mine,)] = cursor.fetchall()
        cursor.execute(WAITING, [mine])
        [(found,)] = cursor.fetchall()
    return bool(found)


async def test_what_was_given_back_stays_so_if_the_message_is_refused_all_the_same(
    simulator: Simulator, tenant: TenantState
) -> None:
    counted = BUDGET_RETURNED._value.get()
    where, _ = await jobs.in_thread(one_dead, tenant, "0.5")
    [refusal] = await asyncio.to_thread(in_threads, [lambda: accept(where.pk)])
    assert isinstance(refusal, Problem) and Decimal(refusal.more["spent"]) == 0
    assert "held" not in refusal.detail
    assert not await jobs.in_thread(Hold.objects.exists)
    assert BUDGET_RETURNED._value.get() == counted + 1
