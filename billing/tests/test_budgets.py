"""Holds, settlements and releases: what is spent and held never passes a limit, and the books add up."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from random import Random, randint
from threading import Barrier
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import transaction
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from billing.models import Balance, Hold, LedgerEntry
from billing.services import budgets
from billing.services.budgets import Account, Amount, Held, Limits, OverBudget
from billing.tests.books import DAY, MODEL, account, check_books, entry, subjects
from billing.vocabulary import BudgetLevel
from chatplatform import tenancy
from chatplatform.jobs import close_connections
from chatplatform.testing import cast
from tenants.selectors import TenantState

NO_LIMITS = Limits()


@pytest.fixture
def books(in_acme: TenantState) -> TenantState:
    """Acme, with empty books."""
    Balance.objects.all().delete()
    Hold.objects.all().delete()
    return in_acme


def dollars(amount: int) -> Amount:
    """So many, a token each."""
    return Amount(Decimal(amount), amount)


def balance(level: BudgetLevel = BudgetLevel.TENANT_MONTH) -> Any:
    """Spent and held: dollars, then tokens."""
    row = Balance.objects.get(level=level)
    return row.spent_usd, row.held_usd, row.spent_tokens, row.held_tokens


def test_a_hold_counts_on_all_levels(books: TenantState) -> None:
    budgets.hold_again(account(contact=uuid4()), [], dollars(3), NO_LIMITS)
    assert {level: balance(BudgetLevel(level)) for level in BudgetLevel.values} == dict.fromkeys(
        BudgetLevel.values, (0, 3, 0, 3)
    )
    check_books()


def test_nobody_in_particular_has_no_balance(books: TenantState) -> None:
    budgets.hold_again(account(), [], dollars(3), NO_LIMITS)
    assert Balance.objects.count() == 3


def test_settling_turns_a_hold_into_what_was_spent(books: TenantState) -> None:
    of = account()
    budgets.hold_again(of, [], dollars(5), NO_LIMITS)
    settled: Any = budgets.settle(of, [entry(of, 2), entry(of, 1, sequence=2)])
    assert [settled.day_usd, settled.month_usd, settled.month_tokens] == [3, 3, 3]
    assert balance() == (3, 0, 3, 0)
    again = budgets.settle(of, [entry(of, 2), entry(of, 1, sequence=2)])
    assert again.month_usd is None, "nothing changed"
    assert balance() == (3, 0, 3, 0)
    check_books()


def test_a_further_call_books_the_one_before(books: TenantState) -> None:
    of = account()
    budgets.hold_again(of, [], dollars(5), NO_LIMITS)
    budgets.hold_again(of, [entry(of, 2)], dollars(4), NO_LIMITS)
    assert balance() == (2, 4, 2, 4)
    budgets.settle(of, [entry(of, 2), entry(of, 3, sequence=2)])
    assert balance() == (5, 0, 5, 0)
    check_books()


@pytest.mark.parametrize(
    "limits",
    [
        Limits(conversation=Decimal(9)),
        Limits(contact_month=Decimal(9)),
        Limits(tenant_day=Decimal(9)),
        Limits(tenant_month=Decimal(9)),
        Limits(tenant_month_tokens=9),
    ],
    ids=["conversation", "contact", "day", "month", "tokens"],
)
def test_each_level_refuses_by_itself_and_then_nothing_is_written(books: TenantState, limits: Limits) -> None:
    conversation, contact = uuid4(), uuid4()
    first, second = (account(conversation=conversation, contact=contact) for _ in range(2))
    with pytest.raises(OverBudget):
        budgets.hold_again(first, [], dollars(10), limits)
    assert not Balance.objects.exists() and not Hold.objects.exists(), (
        "a first hold is checked like any other"
    )
    budgets.hold_again(first, [], dollars(5), limits)
    with pytest.raises(OverBudget):
        budgets.hold_again(second, [entry(second, 1)], dollars(5), limits)
    assert not LedgerEntry.objects.exists()
    budgets.hold_again(second, [], dollars(4), limits)
    assert balance() == (0, 9, 0, 9)
    check_books()


def test_what_costs_nothing_passes_a_budget_that_is_used_up(books: TenantState) -> None:
    of, limits = account(), Limits(tenant_month=Decimal(1))
    budgets.settle(of, [entry(of, 2)])
    budgets.hold_again(account(), [], Amount(Decimal(0), 50), limits)
    with pytest.raises(OverBudget):
        budgets.hold_again(account(), [], Amount(Decimal("0.000000001"), 50), limits)


def test_a_smaller_hold_in_place_of_a_larger_one_always_fits(books: TenantState) -> None:
    of = account()
    budgets.hold_again(of, [], dollars(9), NO_LIMITS)
    budgets.hold_again(of, [entry(of, 4)], dollars(5), Limits(tenant_month=Decimal(2)))
    assert balance() == (4, 5, 4, 5)


def test_days_and_months_are_counted_apart_and_a_conversation_never_begins_anew(books: TenantState) -> None:
    conversation = uuid4()
    for day in (date(2006, 1, 31), date(2006, 2, 1), date(2006, 2, 2)):
        of = account(conversation=conversation, day=day)
        budgets.settle(of, [entry(of, 2)])
    found = {(row.level, row.period): row.spent_usd for row in Balance.objects.all()}
    assert found[BudgetLevel.CONVERSATION, date(1970, 1, 1)] == 6
    assert found[BudgetLevel.TENANT_MONTH, date(2006, 2, 1)] == 4
    assert found[BudgetLevel.TENANT_DAY, date(2006, 2, 1)] == 2
    with pytest.raises(OverBudget):
        later = account(conversation=conversation, day=date(2007, 6, 1))
        budgets.hold_again(later, [], dollars(1), Limits(conversation=Decimal(6)))
    check_books()


def test_the_books_of_two_tenants_do_not_meet(books: TenantState, globex: TenantState) -> None:
    budgets.hold_again(account(), [], dollars(3), NO_LIMITS)
    assert balance(BudgetLevel.TENANT_DAY) == (0, 3, 0, 3)
    with tenancy.in_tenant(globex.ref):
        assert not Balance.objects.filter(period=DAY).exists()


# --- Any order of things -------------------------------------------------------------------------------------------
class Books(RuleBasedStateMachine):
    """Holds, further calls, settlements, releases and workers that die, in any order, of replies that share
    conversations, end users, days and months. A call may take more than was held for it: a balance may then be above
    its limit by just that, and nothing further is held on it.
    """

    CONVERSATIONS = [UUID(int=number) for number in range(1, 4)]
    CONTACTS = [None, UUID(int=101), UUID(int=102)]

    def __init__(self) -> None:
        super().__init__()
        self.savepoint = transaction.atomic()
        self.savepoint.__enter__()
        self.held: dict[Account, int] = {}
        self.made: dict[Account, list[dict[str, object]]] = {}
        self.over: list[Account] = []
        self.above: dict[tuple[str, UUID, date], int] = {}  # by how much calls have taken more than was held

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.savepoint.__exit__(None, None, None)

    @initialize(
        conversation=st.integers(1, 30), contact=st.integers(1, 40), day=st.integers(1, 50), month=st.integers(1, 80),
        tokens=st.integers(1, 90),
    )  # fmt: skip
    def set_limits(self, conversation: int, contact: int, day: int, month: int, tokens: int) -> None:
        self.limits = Limits(Decimal(conversation), Decimal(contact), Decimal(day), Decimal(month), tokens)
        self.begin()

    def begin(self) -> None:
        """What happens before all else."""

    @rule(
        conversation=st.sampled_from(CONVERSATIONS), contact=st.sampled_from(CONTACTS), days=st.integers(0, 40),
        amount=st.integers(1, 20),
    )  # fmt: skip
    def accept(self, conversation: UUID, contact: UUID | None, days: int, amount: int) -> None:
        self.hold(account(1, conversation, contact, DAY + timedelta(days)), [], amount)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), spent=st.integers(0, 20), amount=st.integers(1, 20))
    def call_again(self, data: st.DataObject, spent: int, amount: int) -> None:
        """A call is over, within what was held for it, and another one follows."""
        of = self.one(data)
        made = [*self.made[of], entry(of, min(spent, self.held[of]), len(self.made[of]) + 1)]
        self.hold(of, made, amount)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), spent=st.integers(0, 20))
    def settle(self, data: st.DataObject, spent: int) -> None:
        of = self.one(data)
        made = [*self.made[of], entry(of, min(spent, self.held[of]), len(self.made[of]) + 1)]
        for _ in range(2):
            budgets.settle(of, made)
        self.end(of)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), more=st.integers(1, 100))
    def overrun(self, data: st.DataObject, more: int) -> None:
        """A call took more than was held for it, and is booked all the same."""
        of = self.one(data)
        budgets.settle(of, [*self.made[of], entry(of, self.held[of] + more, len(self.made[of]) + 1)])
        for key in keys(of):
            self.above[key] = self.above.get(key, 0) + more
        self.end(of)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        """A reply was cancelled before its call, or failed."""
        of = self.one(data)
        budgets.settle(of, self.made[of] if data.draw(st.booleans()) else [])
        self.end(of)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), amount=st.integers(1, 20))
    def die(self, data: st.DataObject, amount: int) -> None:
        """A worker dies; another attempt holds for itself, while the first one's hold is still there."""
        of = self.one(data)
        self.hold(replace(of, attempt=of.attempt + 1), [], amount)

    @precondition(lambda self: self.over)
    @rule(data=st.data())
    def settle_what_is_over(self, data: st.DataObject) -> None:
        before = list(Balance.objects.order_by("pk").values())
        budgets.settle(data.draw(st.sampled_from(self.over)))
        assert list(Balance.objects.order_by("pk").values()) == before

    @invariant()
    def nothing_passes_a_limit(self) -> None:
        if not hasattr(self, "limits"):
            return
        for row in Balance.objects.all():
            assert min(row.spent_usd, row.held_usd, row.spent_tokens, row.held_tokens) >= 0
            above = self.above.get((row.level, row.subject, row.period), 0)
            assert fits(row, self.limits, above), row

    @invariant()
    def the_books_add_up(self) -> None:
        check_books()
        assert Hold.objects.count() == len(self.held)

    def one(self, data: st.DataObject) -> Account:
        return data.draw(st.sampled_from(list(self.held)))

    def hold(self, of: Account, made: list[dict[str, object]], amount: int) -> None:
        before = Balance.objects.count(), LedgerEntry.objects.count()
        try:
            budgets.hold_again(of, made, dollars(amount), self.limits, Held(MODEL, 1))
        except OverBudget:
            assert (Balance.objects.count(), LedgerEntry.objects.count()) == before
            return
        if of not in self.held:
            mine = set(keys(of))
            for row in Balance.objects.all():
                assert (row.level, row.subject, row.period) not in mine or fits(row, self.limits), row
        self.held[of], self.made[of] = amount, made

    def end(self, of: Account) -> None:
        del self.held[of], self.made[of]
        self.over.append(of)


def keys(of: Account) -> list[tuple[str, UUID, date]]:
    """The balances on which an account counts."""
    found = [(level, *subjects(level, of)) for level in BudgetLevel.values]
    return [one for one in found if one[1] is not None]


def fits(row: Balance, limits: Limits, above: int = 0) -> bool:
    """Whether what is spent and held on a balance is within its limits, or not more than this above them."""
    limit: Any = {
        BudgetLevel.CONVERSATION: limits.conversation, BudgetLevel.CONTACT_MONTH: limits.contact_month,
        BudgetLevel.TENANT_DAY: limits.tenant_day, BudgetLevel.TENANT_MONTH: limits.tenant_month,
    }[BudgetLevel(row.level)]  # fmt: skip
    tokens: Any = limits.tenant_month_tokens
    if row.level == BudgetLevel.TENANT_MONTH and row.spent_tokens + row.held_tokens > tokens + above:
        return False
    return bool(row.spent_usd + row.held_usd <= limit + above)


def test_in_any_order_no_limit_is_passed_and_the_books_add_up(books: TenantState) -> None:
    run_state_machine_as_test(
        Books,
        settings=settings(
            max_examples=15, stateful_step_count=20, deadline=None, derandomize=True, phases=[Phase.generate]
        ),
    )


# --- Several at once -----------------------------------------------------------------------------------------------
def test_several_connections_at_once_pass_no_limit_and_never_lock_each_other_out(
    committed: None,
) -> None:
    """Threads with connections of their own hold, call again, settle and release; all share a tenant, two
    conversations and two end users. A deadlock would raise."""
    ref = cast.state("globex").ref
    conversations, contacts = [uuid4(), uuid4()], [uuid4(), uuid4()]
    limits = Limits(Decimal(40), Decimal(50), Decimal(70), Decimal(70), 1000)
    day = date(randint(2200, 9000), 5, 6)  # a month that is nobody else's

    everybody = [account(1, *pair, day) for pair in zip(conversations, contacts, strict=True)]

    together = Barrier(6)

    def work(number: int) -> int:
        random, held = Random(number), 0
        with tenancy.in_tenant(ref):
            together.wait()
            for _ in range(40):
                of = account(1, random.choice(conversations), random.choice(contacts), day)
                made = [entry(of, random.randint(0, 2))]
                with suppress(OverBudget):
                    budgets.hold_again(of, [], dollars(random.randint(3, 9)), limits)
                    held += 1
                    if random.random() < 0.3:
                        budgets.hold_again(of, made, dollars(random.randint(3, 9)), limits)
                    if random.random() < 0.9:
                        budgets.settle(of, made if random.random() < 0.3 else [])
                assert within(limits, *everybody)
            close_connections()
        return held

    with ThreadPoolExecutor(6) as pool:
        taken = list(pool.map(work, range(6)))
    assert len([number for number in taken if number]) > 1  # who comes last may find nothing left
    with tenancy.in_tenant(ref):
        check_books(since=day, until=day + timedelta(1))
        Balance.objects.filter(period__in=[day, day.replace(day=1)]).delete()
        Hold.objects.filter(day=day).delete()


def within(limits: Limits, *accounts: Account) -> bool:
    wanted = {key for of in accounts for key in keys(of)}
    periods = {period for _, _, period in wanted}
    found = [
        row
        for row in Balance.objects.filter(period__in=periods)
        if (row.level, row.subject, row.period) in wanted
    ]
    return bool(found) and all(fits(row, limits) for row in found)


def test_one_attempt_settled_by_many_at_once_is_settled_once(committed: None) -> None:
    ref = cast.state("globex").ref
    of = account(day=date(2013, 5, 6))
    with tenancy.in_tenant(ref):
        budgets.hold_again(of, [], dollars(5), NO_LIMITS)

    def settle(_: int) -> None:
        with tenancy.in_tenant(ref):
            budgets.settle(of, [entry(of, 3)])
            close_connections()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(settle, range(24)))
    with tenancy.in_tenant(ref):
        assert of.conversation
        row = Balance.objects.get(level=BudgetLevel.CONVERSATION, subject=of.conversation)
        assert (row.spent_usd, row.held_usd, row.spent_tokens, row.held_tokens) == (3, 0, 3, 0)
