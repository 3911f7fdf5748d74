"""A tenant's books for tests: who spends, a row of the ledger, and what must always be true of them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from billing.models import EVER, NOBODY, Balance, Hold, LedgerEntry
from billing.pricing import Price
from billing.services import metering
from billing.services.budgets import Account
from billing.services.metering import Rate
from billing.vocabulary import BudgetLevel, CallOutcome
from chatplatform.llm.types import ModelRef, Usage

DAY = date(2001, 3, 14)  # long before all that other tests do
THEN = date(2010, 1, 1)
MODEL = ModelRef("openai", "gpt-4o")
# A dollar for a token of the answer, nothing for the prompt: amounts are easily read.
DOLLAR = Rate(Price(None, Decimal(0), Decimal(0), Decimal(0), Decimal(1_000_000)))


def account(
    attempt: int = 1, conversation: UUID | None = None, contact: UUID | None = None, day: date = DAY
) -> Account:
    """An attempt at a reply of its own."""
    return Account(uuid4(), attempt, conversation or uuid4(), contact, day)


def entry(of: Account, dollars: int, sequence: int = 1, **more: Any) -> dict[str, Any]:
    """A call that took so many tokens, a dollar each."""
    about: dict[str, Any] = {
        "reply": of.reply, "conversation": of.conversation, "contact": of.contact, "attempt": of.attempt,
        "sequence": sequence, "day": of.day, "outcome": CallOutcome.COMPLETED, "total_ms": 5,
        "started_at": datetime(2026, 3, 14, tzinfo=UTC),
    }  # fmt: skip
    return metering.call(MODEL, DOLLAR, Usage(output_tokens=dollars), **(about | more))


def subjects(level: str, row: Any) -> tuple[UUID, date]:
    """Subject and period of the balance on which a row of the ledger, or a hold, counts."""
    month = row.day.replace(day=1)
    return {
        BudgetLevel.CONVERSATION: (row.conversation, EVER),
        BudgetLevel.CONTACT_MONTH: (row.contact, month),
        BudgetLevel.TENANT_DAY: (NOBODY, row.day),
        BudgetLevel.TENANT_MONTH: (NOBODY, month),
    }[BudgetLevel(level)]


def check_books(since: date = date.min, until: date = THEN) -> None:
    """Each balance is the sum of its rows of the ledger and of its holds; and every one of these has its balances.

    The balances and holds are those of this test alone; the ledger cannot be emptied, so the test is of long ago.
    """
    wanted: dict[tuple[str, UUID, date], list[Decimal]] = {}
    for place, row, usd, tokens in [
        *(
            (0, row, row.charged_usd, row.input_tokens + row.output_tokens)
            for row in LedgerEntry.objects.filter(day__gte=since, day__lt=until)
        ),
        *((2, row, row.usd, row.tokens) for row in Hold.objects.filter(day__gte=since, day__lt=until)),
    ]:
        for level in BudgetLevel.values:
            subject, period = subjects(level, row)
            if subject is not None and (usd or tokens):
                sums = wanted.setdefault((level, subject, period), [Decimal(0)] * 4)
                sums[place] += usd
                sums[place + 1] += tokens
    found = {
        (row.level, row.subject, row.period): [
            row.spent_usd, Decimal(row.spent_tokens), row.held_usd, Decimal(row.held_tokens),
        ]
        for row in Balance.objects.all()
        if (row.level, row.subject, row.period) in wanted or since == date.min
    }  # fmt: skip
    assert {key: sums for key, sums in found.items() if any(sums)} == {
        key: sums for key, sums in wanted.items() if any(sums)
    }
