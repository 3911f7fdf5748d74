"""Writes what accepting a message writes, in one statement: seven tables, one round trip.

The models' own way is seven statements, and most of the time of accepting a message. Here the database learns in one go
what the models would have told it; every column that is not named gets its field's default, and sealed text goes
through its field, so that a change of a model is followed.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from django.db import DatabaseError, connection, models
from psycopg import sql
from psycopg.types.json import Jsonb

from billing.services import budgets
from billing.services.budgets import Account, Amount, Held, Limits, OverBudget
from chatplatform import jobs
from chatplatform.postgres.prepared import Statement
from conversations.models import Conversation, Message, Reply
from conversations.vocabulary import ConversationStatus, Role

# A data-modifying WITH is carried out whether or not anything reads from it. The work row is shared, so a function
# with the right to write this tenant's writes it (migration 0002).
STATEMENT = """
WITH conversation AS (
    UPDATE {conversation} SET
        updated_at = %(now)s,
        status = CASE status WHEN '{resolved}' THEN '{open}' ELSE status END
    WHERE id = %(conversation)s
),
said AS ({said}),
answer AS ({answer}),
reply AS ({reply} RETURNING message_id),
{hold}
SELECT public.add_work(%(answer)s), {or_refuse}
"""


async def store(
    said: Message,
    answer: Message,
    options: dict[str, Any],
    account: Account,
    amount: Amount,
    limits: Limits,
    held: Held | None = None,
) -> None:
    """Store a user's message, the empty one that will be its answer, the reply to be (`queued`), its work row and the
    hold for its first call, and note on the conversation that something was said, which opens a resolved one.

    One transaction, from an event loop; with `jobs.at_once` from a thread, where it may be part of the caller's. Raises
    OverBudget, or IntegrityError: a reply is running in this conversation, or it has a message with this `client_id`.
    """
    sealed = await jobs.here_or_in_thread(_sealed, said, answer, account)
    values = {
        "now": said.created_at,
        "conversation": said.conversation_id,
        "said": said.id,
        "answer": answer.id,
        "content": sealed[0],
        "nothing": sealed[1],
        "client_id": said.client_id,
        "options": Jsonb(options),
        **budgets.hold_values(account, amount, limits, held),
    }
    try:
        with budgets.savepoint():
            await _statement().ask(values)
    except DatabaseError as error:
        if budgets.refused(error):
            raise OverBudget from error
        raise


def _sealed(said: Message, answer: Message, account: Account) -> list[bytes]:
    return [Message.sealed(one.content, one.id, account.contact) for one in (said, answer)]


@cache
def _statement() -> Statement:
    here, now = "%(conversation)s", "%(now)s"
    text = STATEMENT.format(
        conversation=Conversation._meta.db_table,
        resolved=ConversationStatus.RESOLVED,
        open=ConversationStatus.OPEN,
        said=_insert(
            Message,
            id="%(said)s",
            conversation_id=here,
            role=f"'{Role.USER}'",
            content="%(content)s",
            client_id="%(client_id)s",
            created_at=now,
        ),
        answer=_insert(
            Message,
            id="%(answer)s",
            conversation_id=here,
            role=f"'{Role.ASSISTANT}'",
            content="%(nothing)s",
            created_at=now,
        ),
        hold=budgets.HOLD_FIRST,
        or_refuse=budgets.OR_REFUSE,
        reply=_insert(
            Reply,
            message_id="%(answer)s",
            user_message_id="%(said)s",
            conversation_id=here,
            options="%(options)s",
            created_at=now,
        ),
    )
    return Statement(text)


def _insert(model: type[models.Model], **given: str) -> str:
    """An INSERT of one row: the given columns as SQL, its field's default for each of the others."""
    fields = model._meta.concrete_fields
    return "INSERT INTO {table} ({columns}) VALUES ({values})".format(  # noqa: S608 - all of it our own models say
        table=model._meta.db_table,
        columns=", ".join(str(field.column) for field in fields),
        values=", ".join(given.get(field.attname) or _default(field) for field in fields),
    )


def _default(field: Any) -> str:
    value = field.get_db_prep_save(field.get_default(), connection)
    return sql.Literal(value).as_string(None).replace("%", "%%")
