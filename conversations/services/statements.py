"""A turn's writing and reading in a worker, each step in one statement and one round trip.

Through the models a turn takes fifteen statements and four commits. The SQL of a turn is written out here and in
`storing.py`, which accepts it; values go through the model fields' own conversions both ways where these change
anything (text that people wrote is sealed), and `tests/test_statements.py` holds what is written against what the
models would write.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, router
from django.db.models import Model

from billing.models import Hold
from billing.services import budgets
from billing.services.budgets import NOTHING, Account, Amount, Settled
from billing.services.metering import Row
from chatplatform import jobs
from chatplatform.llm.tokens import answer_tokens
from chatplatform.llm.types import ChatMessage, ModelRef
from chatplatform.postgres.prepared import Statement, wrapper_of
from conversations.models import Conversation, Message, Reply
from conversations.prompts.build import HISTORY_MESSAGES
from tenants import keyring

M = TypeVar("M", bound=Model)

# Takes the lease; marks the reply; reads all that the prompt needs. First the reply is locked, then its work row, as
# the settlement does: an older attempt may be settling just now. `|| ''`, here and there, keeps PostgreSQL from looking
# for the reply among all that run: while hardly any do that seems cheap to it, and its plan stays when there are many.
BEGIN = Statement(f"""
WITH locked AS MATERIALIZED (
    SELECT message_id FROM conversations_reply WHERE message_id = %(reply)s FOR NO KEY UPDATE
), taken AS MATERIALIZED (
    SELECT attempt, cancel_requested FROM locked, public.take_work(locked.message_id, %(holder)s, %(seconds)s)
), begun AS (
    UPDATE conversations_reply AS reply
    SET attempt = taken.attempt, status = 'generating', started_at = statement_timestamp()
    FROM taken
    WHERE reply.message_id = %(reply)s AND reply.attempt < taken.attempt
        AND reply.status || '' IN ('queued', 'generating')
    RETURNING reply.user_message_id, reply.conversation_id, reply.status, reply.attempt, reply.options,
        reply.created_at, reply.started_at, taken.cancel_requested
)
SELECT begun.user_message_id, begun.conversation_id, begun.status, begun.attempt, begun.options,
    begun.created_at, begun.started_at,
    conversation.model, conversation.fallback_model, conversation.temperature, conversation.system_prompt,
    conversation.contact_id, said.ids, said.roles, said.contents, begun.cancel_requested,
    EXISTS (SELECT FROM conversations_chunk), hold.usd, hold.tokens, key.wrapped, key.tenant_key
FROM begun
LEFT JOIN billing_hold AS hold ON hold.reply = %(reply)s AND hold.attempt = begun.attempt
JOIN conversations_conversation AS conversation ON conversation.id = begun.conversation_id
LEFT JOIN tenants_datakey AS key ON key.id = conversation.contact_id
CROSS JOIN LATERAL (
    SELECT array_agg(newest.id ORDER BY newest.id), array_agg(newest.role ORDER BY newest.id),
        array_agg(newest.content ORDER BY newest.id)
    FROM (
        SELECT id, role, content FROM conversations_message
        WHERE conversation_id = begun.conversation_id AND id <= begun.user_message_id
        ORDER BY id DESC LIMIT {HISTORY_MESSAGES}
    ) AS newest
) AS said (ids, roles, contents)
""")  # noqa: S608 (no values)
OF_REPLY = ("user_message_id", "conversation_id", "status", "attempt", "options", "created_at", "started_at")
OF_CONVERSATION = ("model", "fallback_model", "temperature", "system_prompt", "contact_id")

# Writes the end of a reply, if this attempt is still the newest, and notes that only its last event is left to do.
# The calls that were made are booked, and their hold is given up, in any case.
SETTLE = Statement(f"""
WITH ended AS (
    UPDATE conversations_reply
    SET status = %(status)s, finish_reason = %(finish_reason)s, model = %(model)s, provider = %(provider)s,
        input_tokens = %(input_tokens)s, cached_input_tokens = %(cached_input_tokens)s,
        cache_write_input_tokens = %(cache_write_input_tokens)s, output_tokens = %(output_tokens)s,
        cost_usd = %(cost_usd)s, sources = %(sources)s, degraded = %(degraded)s, notice = %(notice)s,
        error_code = %(error_code)s, error_detail = %(error_detail)s, configuration = %(configuration)s,
        first_token_at = %(first_token_at)s, completed_at = %(completed_at)s
    WHERE message_id = %(message_id)s AND attempt = %(attempt)s AND status || '' IN ('queued', 'generating')
    RETURNING message_id
), said AS (
    UPDATE conversations_message SET content = %(content)s FROM ended WHERE id = ended.message_id
), {budgets.SETTLE}
SELECT public.settle_work(message_id, %(seconds)s), {budgets.SPENT} FROM ended
""")  # noqa: S608 (no values)
SETTLED = (
    "status finish_reason model provider input_tokens cached_input_tokens cache_write_input_tokens output_tokens "
    "cost_usd sources degraded notice error_code error_detail configuration first_token_at completed_at"
).split()
SOURCES: Any = Reply._meta.get_field("sources")  # the others go to the database as they are

# Keeps the texts of many replies. A stale attempt's is not written. The replies are locked: the end of one that is
# settled between the look and the write would be overwritten.
CHECKPOINT = Statement("""
WITH current AS MATERIALIZED (
    SELECT given.id, given.content
    FROM unnest(%(replies)s::uuid[], %(attempts)s::integer[], %(contents)s::bytea[]) AS given (id, attempt, content)
    JOIN conversations_reply AS reply ON reply.message_id = given.id
    WHERE reply.attempt = given.attempt AND reply.status = 'generating'
    ORDER BY given.id
    FOR NO KEY UPDATE OF reply SKIP LOCKED
)
UPDATE conversations_message AS message SET content = current.content FROM current WHERE message.id = current.id
""")

# Keeps the text of a reply and gives its lease back.
HAND_BACK = Statement("""
WITH current AS MATERIALIZED (
    SELECT message_id FROM conversations_reply
    WHERE message_id = %(reply)s AND attempt = %(attempt)s AND status = 'generating'
    FOR NO KEY UPDATE
), said AS (
    UPDATE conversations_message SET content = %(content)s FROM current WHERE id = current.message_id
)
SELECT public.hand_back_work(%(reply)s, %(attempt)s)
""")


@dataclass(frozen=True, slots=True)
class Begun:
    """An attempt that has begun: its reply with the conversation (what a prompt needs of it), what was said up to
    the question, oldest first, whether somebody wants it stopped, whether there is knowledge to look into, and what
    is held for this attempt."""

    reply: Reply
    said: list[ChatMessage]
    cancelled: bool
    knows: bool
    held: Amount = NOTHING


async def begin(reply_id: UUID, holder: str) -> Begun | None:
    """Take the lease on a reply of the current tenant and begin the next attempt.

    None if another worker holds a live lease, or nothing is left to do: then the caller leaves.
    """
    values = {"reply": reply_id, "holder": holder, "seconds": settings.LEASE_SECONDS}
    rows = await BEGIN.ask(values, _alias())
    return await jobs.here_or_in_thread(_begun, reply_id, rows[0]) if rows else None


def _begun(reply_id: UUID, row: Sequence[Any]) -> Begun:
    """What the statement answers. The keys of texts may have to be looked up."""
    if row[OF_REPLY.index("attempt")] > 1:
        _keep_received(reply_id, row[OF_REPLY.index("attempt")])
    split = len(OF_REPLY) + len(OF_CONVERSATION)
    ids, roles, contents, cancelled, knows, usd, tokens, wrapped, wrapped_by = row[split:]
    database = wrapper_of(_alias())
    reply = _instance(database, Reply, ("message_id", *OF_REPLY), (reply_id, *row[: len(OF_REPLY)]))
    of_conversation = reply.conversation_id, *row[len(OF_REPLY) : split]
    conversation = _instance(database, Conversation, ("id", *OF_CONVERSATION), of_conversation)
    reply.conversation = conversation
    if conversation.contact_id and wrapped:
        keyring.offer(conversation.contact_id, bytes(wrapped), wrapped_by)
    said = [
        ChatMessage("user" if role == "user" else "assistant", content)
        for id, role, stored in zip(ids, roles, contents, strict=True)
        if (content := Message.opened(stored, id))
    ]
    held = NOTHING if usd is None else Amount(usd, tokens)
    return Begun(reply, said, cancelled, knows, held)


def _keep_received(reply_id: UUID, attempt: int) -> None:
    """Note how much earlier attempts had received, for their calls to be booked, before this one's text replaces
    theirs."""
    dead = Hold.objects.filter(reply=reply_id, attempt__lt=attempt, model__isnull=False, received_tokens=None)
    text = Message.objects.get(pk=reply_id).content if dead else ""
    for hold in dead:
        assert hold.model
        received = answer_tokens(text, ModelRef.parse(hold.model))
        # It may be given back by now, and its call booked.
        Hold.objects.filter(pk=hold.pk).update(received_tokens=received)


async def settle(reply: Reply, content: str, account: Account, entries: Sequence[Row] = ()) -> Settled | None:
    """Write the end of a reply as the instance has it, and book the calls that were made for it.

    None if a newer attempt has taken over, or it had ended.
    """
    database = wrapper_of(_alias())
    values = {name: getattr(reply, name) for name in SETTLED}
    values["sources"] = SOURCES.get_db_prep_save(reply.sources, database)
    values |= {"message_id": reply.pk, "attempt": reply.attempt, "seconds": settings.LEASE_SECONDS}
    values |= budgets.settle_values(account, entries)
    sealed = await jobs.here_or_in_thread(Message.sealed, content, reply.pk, account.contact)
    rows = await SETTLE.ask({**values, "content": sealed}, database.alias)
    return Settled(*rows[0][1:]) if rows else None


def checkpoint(texts: Collection[tuple[UUID, int, str, UUID | None]]) -> None:
    """Keep the texts so far, each (reply id, attempt, text, contact), of replies of the current tenant."""
    replies, attempts, contents, contacts = zip(*texts, strict=True)
    sealed = [Message.sealed(*one) for one in zip(contents, replies, contacts, strict=True)]
    _rows(CHECKPOINT, {"replies": list(replies), "attempts": list(attempts), "contents": sealed})


def hand_back(reply: Reply, content: str) -> None:
    """Give the lease on a reply back, with the text so far kept, so that another worker may take it now."""
    sealed = Message.sealed(content, reply.pk, reply.conversation.contact_id)
    values = {"reply": reply.pk, "attempt": reply.attempt, "content": sealed}
    _rows(HAND_BACK, values)


def _instance(database: Any, model: type[M], names: Sequence[str], values: Sequence[Any]) -> M:
    """An instance with these values out of the database, and defaults for the rest."""
    read = dict(zip(names, values, strict=True))
    for name, convert in _converters(model, names):
        read[name] = convert(read[name], None, database)
    # In the order of the fields: given by name, each takes Django three times as long.
    fields = model._meta.concrete_fields
    made = model(*(read[field.attname] if field.attname in read else field.get_default() for field in fields))
    made._state.adding, made._state.db = False, database.alias
    return made


def _rows(statement: Statement, values: Mapping[str, Any]) -> list[Any]:
    return statement.run(values, _alias())


def _alias() -> str:
    return router.db_for_write(Reply) or DEFAULT_DB_ALIAS


@cache
def _converters(model: type[Model], names: Sequence[str]) -> list[tuple[str, Any]]:
    """What the fields that need it make of a value of the database."""
    connection = wrapper_of(_alias())
    fields: list[Any] = [model._meta.get_field(name) for name in names]
    return [(field.attname, convert) for field in fields for convert in field.get_db_converters(connection)]
