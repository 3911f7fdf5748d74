"""Budgets: what a reply may cost at most is held before it is asked for, and settled or given back after.

The one thing that is ever done is to book: calls that are over go into the ledger and count as spent, and the hold of
an attempt at a reply is replaced by another or by none. All balances that are concerned change in the same statement,
or none does. What is spent and held together never passes a limit by a hold; a call that took more than was held for
it is booked all the same, for it was made.

The statements stand here as the middle of a WITH, so that whoever accepts a message or settles a reply does that and
this in one round trip. Balances are locked in the order of `BudgetLevel`, always and everywhere, and after the rows of
the reply.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
from django.db import DEFAULT_DB_ALIAS, DatabaseError, router, transaction
from uuid_utils import uuid7

from billing import plans
from billing.models import EVER, NOBODY, Balance, LedgerEntry
from billing.services.metering import Row
from billing.vocabulary import BudgetLevel
from chatplatform.llm.types import ModelRef
from chatplatform.observability.metrics import BUDGET_OVERRUNS
from chatplatform.postgres.prepared import Statement, wrapper_of
from tenants.selectors import TenantState

REFUSED = "CB402"  # the SQLSTATE of migration 0002
COLUMNS = ", ".join(str(field.column) for field in LedgerEntry._meta.concrete_fields)
NO_LIMIT = Decimal("Infinity")


class OverBudget(Exception):
    """A hold would have passed a limit. Nothing was written."""


@dataclass(frozen=True, slots=True)
class Amount:
    """US dollars as the tenant pays them, and tokens of both kinds together."""

    usd: Decimal = Decimal(0)
    tokens: int = 0


NOTHING = Amount()


@dataclass(frozen=True, slots=True)
class Account:
    """An attempt at a reply, and whose budgets it counts on. `day` (UTC) is when the reply was accepted.

    A call outside of a turn has a `reply` of its own, and may be for a document.
    """

    reply: UUID
    attempt: int
    conversation: UUID | None
    contact: UUID | None
    day: date
    document: UUID | None = None

    @property
    def month(self) -> date:
        return self.day.replace(day=1)


@dataclass(frozen=True, slots=True)
class Held:
    """The call that a hold is for: what books it if nobody lives to tell."""

    model: ModelRef
    input_tokens: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be spent at each level; None is no limit."""

    conversation: Decimal | None = None
    contact_month: Decimal | None = None
    tenant_day: Decimal | None = None
    tenant_month: Decimal | None = None
    tenant_month_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """What the tenant has spent after a booking; None where it changed nothing."""

    day_usd: Decimal | None
    month_usd: Decimal | None
    month_tokens: int | None


def limits_of(state: TenantState) -> Limits:
    """The limits that a tenant's configuration and plan set."""
    configuration = state.configuration
    return Limits(
        conversation=configuration.conversation_cost_budget_usd,
        contact_month=configuration.user_monthly_cost_budget_usd,
        tenant_day=configuration.daily_cost_budget_usd,
        tenant_month=configuration.monthly_cost_budget_usd,
        tenant_month_tokens=plans.monthly_tokens(state),
    )


# --- The statements ------------------------------------------------------------------------------------------------
ENTRIES = f"""
entries AS (
    INSERT INTO billing_ledgerentry ({COLUMNS})
    SELECT {COLUMNS} FROM jsonb_populate_recordset(NULL::billing_ledgerentry, %(entries)s::jsonb)
    ON CONFLICT (reply, attempt, sequence) DO NOTHING
    RETURNING charged_usd, input_tokens + output_tokens AS tokens
)"""  # noqa: S608 (names of columns, no values)
INSERT_HOLD = """
INSERT INTO billing_hold AS hold
    (id, reply, attempt, conversation, contact, day, usd, tokens, taken_at, model, input_tokens)
SELECT (%(new_ids)s::uuid[])[5], %(of_reply)s::uuid, %(of_attempt)s::smallint, %(of_conversation)s::uuid,
    %(of_contact)s::uuid, %(of_day)s::date, %(hold_usd)s::numeric, %(hold_tokens)s::bigint, statement_timestamp(),
    %(hold_model)s::varchar, %(hold_input)s::integer
"""
# The first hold of a reply, beside the other rows of an accepted message, once `reply` is there.
FIRST_HOLD = f"""
held AS ({INSERT_HOLD} FROM reply),
change (spent_usd, spent_tokens, held_usd, held_tokens) AS (
    SELECT 0::numeric, 0::bigint, %(hold_usd)s::numeric, %(hold_tokens)s::bigint FROM reply
)"""  # noqa: S608 (no values, here and below)
NEXT_HOLD = f"""
{ENTRIES},
was AS MATERIALIZED (
    SELECT usd, tokens FROM billing_hold WHERE reply = %(of_reply)s AND attempt = %(of_attempt)s FOR UPDATE
), held AS (
    {INSERT_HOLD}
    ON CONFLICT (reply, attempt) DO UPDATE
    SET usd = excluded.usd, tokens = excluded.tokens, taken_at = excluded.taken_at,
        model = excluded.model, input_tokens = excluded.input_tokens
), change (spent_usd, spent_tokens, held_usd, held_tokens) AS MATERIALIZED (
    SELECT coalesce((SELECT sum(charged_usd) FROM entries), 0), coalesce((SELECT sum(tokens) FROM entries), 0),
        %(hold_usd)s::numeric - coalesce((SELECT usd FROM was), 0),
        %(hold_tokens)s::bigint - coalesce((SELECT tokens FROM was), 0)
)"""  # noqa: S608
NO_HOLD = f"""
{ENTRIES},
was AS (
    DELETE FROM billing_hold WHERE reply = %(of_reply)s AND attempt = %(of_attempt)s RETURNING usd, tokens
), change (spent_usd, spent_tokens, held_usd, held_tokens) AS MATERIALIZED (
    SELECT coalesce((SELECT sum(charged_usd) FROM entries), 0), coalesce((SELECT sum(tokens) FROM entries), 0),
        -coalesce((SELECT usd FROM was), 0), -coalesce((SELECT tokens FROM was), 0)
)"""  # noqa: S608
WANTED = """
wanted AS (
    SELECT id, level, subject, period, spent_usd, spent_tokens, held_usd, held_tokens, usd_limit, token_limit
    FROM change, (VALUES
        ({id}[1], '{conversation}', %(of_conversation)s::uuid, '{ever}'::date, {conversation_limit}, {none}),
        ({id}[2], '{contact}', %(of_contact)s::uuid, %(of_month)s::date, {contact_limit}, {none}),
        ({id}[3], '{day}', '{nobody}'::uuid, %(of_day)s::date, {day_limit}, {none}),
        ({id}[4], '{month}', '{nobody}'::uuid, %(of_month)s::date, {month_limit}, {token_limit})
    ) AS counted (id, level, subject, period, usd_limit, token_limit)
    WHERE subject IS NOT NULL AND (spent_usd <> 0 OR spent_tokens <> 0 OR held_usd <> 0 OR held_tokens <> 0)
)"""
LEVELS = {
    "conversation": BudgetLevel.CONVERSATION,
    "contact": BudgetLevel.CONTACT_MONTH,
    "day": BudgetLevel.TENANT_DAY,
    "month": BudgetLevel.TENANT_MONTH,
    "ever": EVER,
    "nobody": NOBODY,
    "none": "'Infinity'::numeric",
    "id": "(%(new_ids)s::uuid[])",
}
LIMITS = {
    "conversation_limit": "%(conversation_limit)s::numeric",
    "contact_limit": "%(contact_limit)s::numeric",
    "day_limit": "%(day_limit)s::numeric",
    "month_limit": "%(month_limit)s::numeric",
    "token_limit": "%(token_limit)s::numeric",
}
INTO_BALANCES = """
INSERT INTO billing_balance AS balance
    (id, level, subject, period, spent_usd, held_usd, spent_tokens, held_tokens)
SELECT id, level, subject, period, spent_usd, held_usd, spent_tokens, held_tokens
FROM wanted {fits}
ORDER BY level
ON CONFLICT (level, subject, period) DO UPDATE SET
    spent_usd = balance.spent_usd + excluded.spent_usd, held_usd = balance.held_usd + excluded.held_usd,
    spent_tokens = balance.spent_tokens + excluded.spent_tokens,
    held_tokens = balance.held_tokens + excluded.held_tokens
{still_fits}
RETURNING level, spent_usd, spent_tokens
"""
# What a booking adds must fit, or be nothing: then a budget that is used up by now stands in nobody's way. The last
# WHERE is asked about the row as it is once it is locked, whatever others have done to it since the statement began.
FITS = "WHERE spent_usd + held_usd <= usd_limit AND spent_tokens + held_tokens <= token_limit"
STILL_FITS = """
WHERE (excluded.spent_usd + excluded.held_usd <= 0 OR
        balance.spent_usd + balance.held_usd + excluded.spent_usd + excluded.held_usd <= CASE balance.level
            WHEN '{conversation}' THEN {conversation_limit} WHEN '{contact}' THEN {contact_limit}
            WHEN '{day}' THEN {day_limit} ELSE {month_limit} END)
    AND (excluded.spent_tokens + excluded.held_tokens <= 0 OR balance.level <> '{month}' OR
        balance.spent_tokens + balance.held_tokens + excluded.spent_tokens + excluded.held_tokens <= {token_limit})
"""
CHECKED = (WANTED + ", booked AS (" + INTO_BALANCES + ")").format(
    fits=FITS, still_fits=STILL_FITS.format(**LEVELS, **LIMITS), **LEVELS, **LIMITS
)
UNCHECKED = (WANTED + ", booked AS (" + INTO_BALANCES + ")").format(
    fits="", still_fits="", **LEVELS, **dict.fromkeys(LIMITS, LEVELS["none"])
)
# To be selected at the end of a statement that takes a hold: raises if it does not fit. The function is not called for
# nothing: what is in it would be planned anew for each tenant's search_path.
OR_REFUSE = """
CASE WHEN (SELECT count(*) FROM booked) < (SELECT count(*) FROM wanted) THEN public.refuse_over_budget(1) END
"""
# To be selected at the end of a statement that settles: what `settled` reads.
SPENT = f"""
(SELECT spent_usd FROM booked WHERE level = '{BudgetLevel.TENANT_DAY}'),
(SELECT spent_usd FROM booked WHERE level = '{BudgetLevel.TENANT_MONTH}'),
(SELECT spent_tokens FROM booked WHERE level = '{BudgetLevel.TENANT_MONTH}')
"""  # noqa: S608
HOLD_FIRST = f"{FIRST_HOLD}, {CHECKED}"
"""In a WITH that has `reply`, with `hold_values`. To be followed by a SELECT of OR_REFUSE."""
HOLD_AGAIN = Statement(f"WITH {NEXT_HOLD}, {CHECKED} SELECT {OR_REFUSE}")
SETTLE = f"{NO_HOLD}, {UNCHECKED}"
"""In a WITH, with `settle_values`. May be followed by a SELECT of SPENT."""
SETTLE_ALONE = Statement(f"WITH {SETTLE} SELECT {SPENT}")
STANDINGS = Statement(
    """
SELECT level, spent_usd, held_usd, spent_tokens, held_tokens FROM billing_balance
WHERE (level, subject, period) IN (
    ('{conversation}', %(of_conversation)s::uuid, '{ever}'::date),
    ('{contact}', %(of_contact)s::uuid, %(of_month)s::date),
    ('{day}', '{nobody}'::uuid, %(of_day)s::date), ('{month}', '{nobody}'::uuid, %(of_month)s::date))
""".format(**LEVELS)
)


def hold_values(account: Account, amount: Amount, limits: Limits, held: Held | None = None) -> dict[str, Any]:
    """The values that HOLD_FIRST wants."""
    return {
        **_account(account),
        "new_ids": _new_ids(),
        "hold_usd": amount.usd,
        "hold_tokens": amount.tokens,
        "hold_model": str(held.model) if held else None,
        "hold_input": held.input_tokens if held else None,
        "conversation_limit": _limit(limits.conversation),
        "contact_limit": _limit(limits.contact_month),
        "day_limit": _limit(limits.tenant_day),
        "month_limit": _limit(limits.tenant_month),
        "token_limit": _limit(limits.tenant_month_tokens),
    }


def settle_values(account: Account, entries: Sequence[Row]) -> dict[str, Any]:
    """The values that SETTLE wants."""
    return {**_account(account), "new_ids": _new_ids(), "entries": _rows(entries)}


def refused(error: DatabaseError) -> bool:
    """Whether a statement was refused because a hold does not fit."""
    return getattr(error.__cause__, "sqlstate", None) == REFUSED


def savepoint() -> AbstractContextManager[Any]:
    """For a statement that may be refused and tried again: a refusal breaks the transaction it is part of."""
    using = _using()
    return transaction.atomic(using) if wrapper_of(using).in_atomic_block else nullcontext()


# --- What is done with them ----------------------------------------------------------------------------------------
def hold_again(
    account: Account, entries: Sequence[Row], amount: Amount, limits: Limits, held: Held | None = None
) -> None:
    """Book the calls that an attempt has made and hold this much for its next one. Raises OverBudget."""
    values = {**hold_values(account, amount, limits, held), "entries": _rows(entries)}
    try:
        with savepoint():
            _run(HOLD_AGAIN, values)
    except DatabaseError as error:
        if refused(error):
            raise OverBudget from error
        raise


def settle(account: Account, entries: Sequence[Row] = ()) -> Settled:
    """Book the calls that an attempt has made, and hold nothing for it any more. Never refused; any number of times."""
    [row] = _run(SETTLE_ALONE, settle_values(account, entries))
    return Settled(*row)


def note_overrun(held: Amount, spent: Amount) -> None:
    """Count a call that took more than was held for it."""
    if spent.usd > held.usd or spent.tokens > held.tokens:
        BUDGET_OVERRUNS.inc()


def standings(account: Account) -> dict[str, tuple[Amount, Amount]]:
    """What is spent and what is held at each level that this account counts on and that has a balance yet."""
    return {
        level: (Amount(spent_usd, spent_tokens), Amount(held_usd, held_tokens))
        for level, spent_usd, held_usd, spent_tokens, held_tokens in _run(STANDINGS, _account(account))
    }


def of_month(month: date) -> tuple[Amount, Amount]:
    """What the current tenant has spent in a month, given by its first day, and what it holds."""
    found = Balance.objects.filter(level=BudgetLevel.TENANT_MONTH, subject=NOBODY, period=month).first()
    row = found or Balance()
    return Amount(row.spent_usd, row.spent_tokens), Amount(row.held_usd, row.held_tokens)


def _account(account: Account) -> dict[str, Any]:
    return {
        "of_reply": account.reply,
        "of_attempt": account.attempt,
        "of_conversation": account.conversation,
        "of_contact": account.contact,
        "of_day": account.day,
        "of_month": account.month,
    }


def _new_ids() -> str:
    """Ids for the four balances and the hold, as an array. The database would make one for every balance, also where
    there is one already, and each costs it as much as all of these cost us.
    """
    return "{" + ",".join(str(uuid7()) for _ in range(5)) + "}"


def _limit(limit: Decimal | int | None) -> Decimal:
    return NO_LIMIT if limit is None else Decimal(limit)


def _rows(entries: Sequence[Row]) -> str:
    return orjson.dumps(list(entries), default=str).decode()


def _run(statement: Statement, values: dict[str, Any]) -> list[tuple[Any, ...]]:
    return statement.run(values, _using())


def _using() -> str:
    return router.db_for_write(Balance) or DEFAULT_DB_ALIAS
