"""The books still add up when attempts die, in any order with all else, and what they held is given back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.utils import timezone
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from billing.models import Hold, LedgerEntry
from billing.services.budgets import Account
from billing.tests.books import DAY, account
from billing.tests.test_budgets import Books
from billing.tests.test_budgets import books as books
from conversations.models import Conversation, Message, Reply
from conversations.services import holds
from conversations.vocabulary import ReplyStatus, Role
from tenants.selectors import TenantState

LONG_AGO = timedelta(hours=2)
LATELY = 3600.0  # s


class BooksOfTheDead(Books):
    """As `Books`, of replies that are there, so that the code decides whose hold is a dead attempt's."""

    def __init__(self) -> None:
        super().__init__()
        self.returned: list[bool] = []  # of each dead hold that was given back, whether a call was booked

    def begin(self) -> None:
        """Two attempts die, one that had begun and one that had not; each fits, in its month."""
        for attempt, days in ((1, 0), (0, 40)):
            self.hold(of := account(day=DAY + timedelta(days)), [], 1)
            fall_silent(of, attempt=attempt, status=ReplyStatus.CANCELLED)
        self.return_dead()
        assert self.returned[-2:] in ([True, False], [False, True])

    def hold(self, of: Account, made: list[dict[str, object]], amount: int) -> None:
        super().hold(of, made, amount)
        if of not in self.held:
            return
        if of.attempt == 1 and not Reply.objects.filter(pk=of.reply).exists():
            write_reply(of.reply)
        else:
            Reply.objects.filter(pk=of.reply, attempt__lt=of.attempt).update(attempt=of.attempt)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), received=st.none() | st.integers(0, 30), cancelled=st.booleans())
    def leave(self, data: st.DataObject, received: int | None, cancelled: bool) -> None:
        """A worker has not been heard of for long, and its reply was cancelled since, or another one has begun it."""
        of = self.one(data)
        changes = {"status": ReplyStatus.CANCELLED} if cancelled else {"attempt": of.attempt + 1}
        fall_silent(of, received, **changes)

    @precondition(lambda self: any(map(is_dead, self.held)))
    @rule()
    def return_dead(self) -> None:
        """What a dead attempt held comes back; the call that it may have made is booked, within what was held."""
        dead = [of for of in self.held if is_dead(of)]
        before = {of: len(booked(of)) for of in dead}
        assert [holds.return_dead(LATELY) for _ in range(2)] == [len(dead), 0]
        for of in dead:
            lost = booked(of)[before[of] :]
            begun = Reply.objects.get(pk=of.reply).attempt >= of.attempt
            assert [row.error for row in lost] == ["worker_lost"] * begun
            for row in lost:
                assert row.charged_usd <= self.held[of] >= row.input_tokens + row.output_tokens
            self.returned.append(begun)
            self.end(of)


def fall_silent(of: Account, received: int | None = None, **reply: Any) -> None:
    """The attempt's worker has held this long ago; its reply is now like this."""
    hold = Hold.objects.filter(reply=of.reply, attempt=of.attempt)
    hold.update(taken_at=timezone.now() - LONG_AGO, received_tokens=received)
    Reply.objects.filter(pk=of.reply).update(**reply)


def write_reply(reply: UUID) -> None:
    """A reply that no worker has begun, in a conversation of its own: only one is generated in each."""
    conversation = Conversation.objects.create()
    said = Message.objects.create(conversation=conversation, role=Role.USER, content="Hello")
    answer = Message.objects.create(
        pk=reply, conversation=conversation, role=Role.ASSISTANT, content="So far and no further"
    )
    Reply.objects.create(message=answer, user_message=said, conversation=conversation)


def is_dead(of: Account) -> bool:
    reply = Reply.objects.get(pk=of.reply)
    silent = Hold.objects.get(reply=of.reply, attempt=of.attempt).taken_at < timezone.now() - LONG_AGO / 2
    return silent and (reply.attempt > of.attempt or reply.status == ReplyStatus.CANCELLED)


def booked(of: Account) -> list[Any]:
    return list(LedgerEntry.objects.filter(reply=of.reply, attempt=of.attempt).order_by("sequence"))


def test_dead_attempts_in_any_order_pass_no_limit_and_the_books_add_up(books: TenantState) -> None:
    run_state_machine_as_test(
        BooksOfTheDead,
        settings=settings(
            max_examples=10, stateful_step_count=20, deadline=None, derandomize=True, phases=[Phase.generate]
        ),
    )
