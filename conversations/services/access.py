"""The only ways to an object of a conversation: what is not the caller's is not found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from chatplatform import jobs
from chatplatform.api.problem import Code, Problem
from chatplatform.postgres.prepared import Statement
from conversations.models import Conversation, Message, Reply
from conversations.prompts.build import HISTORY_MESSAGES
from conversations.vocabulary import Role
from tenants.auth.principal import Principal
from tenants.secrets import OVERHEAD

NO_CONVERSATION = "There is no such conversation."
# Of what was said before, the prompt of the next reply has the newest messages: their lengths, sealed as they are. How
# many is written out: of a value PostgreSQL would think that knowing it were worth a new plan each time.
SPEAKING = Statement(f"""
    SELECT model, contact_id, system_prompt, history.messages, history.bytes,
        EXISTS (SELECT FROM conversations_chunk)
    FROM conversations_conversation AS conversation CROSS JOIN LATERAL (
        SELECT count(*), coalesce(sum(octet_length(content)), 0)
        FROM (
            SELECT content FROM conversations_message
            WHERE conversation_id = conversation.id ORDER BY id DESC LIMIT {HISTORY_MESSAGES - 1}
        ) AS newest
    ) AS history (messages, bytes)
    WHERE id = %(id)s AND (contact_id = %(contact)s OR %(contact)s IS NULL)
""")  # noqa: S608 (no values)


@dataclass(frozen=True, slots=True)
class Speaking:
    """What there is to know before something is said in a conversation: the model that it was begun with (empty for
    the tenant's choice), its end user, its own instructions, how much of what was said before the prompt will have,
    and whether there is knowledge to look into."""

    model: str
    contact_id: UUID | None
    system_prompt: str | None
    messages: int
    bytes: int
    knows: bool


def access_conversation(principal: Principal, conversation_id: UUID) -> Conversation:
    """The conversation, if the caller may see it. Raises Problem `not_found`."""
    rows = Conversation.objects.select_related("contact")
    if principal.contact_id is not None:
        rows = rows.filter(contact_id=principal.contact_id)
    conversation = rows.filter(pk=conversation_id).first()
    if conversation is None:
        raise Problem(Code.NOT_FOUND, NO_CONVERSATION)
    return conversation


async def speaking_in(principal: Principal, conversation_id: UUID) -> Speaking:
    """What there is to know before something is said, if the caller may speak here.

    The cheap way for whoever needs no more, from an event loop or, with `jobs.at_once`, a thread. Raises Problem
    `not_found`.
    """
    rows = await SPEAKING.ask({"id": conversation_id, "contact": principal.contact_id})
    if not rows:
        raise Problem(Code.NOT_FOUND, NO_CONVERSATION)
    model, contact_id, sealed, messages, length, knows = rows[0]
    # Sealing makes each longer.
    said = max(0, int(length) - OVERHEAD * messages)
    instructions = await jobs.here_or_in_thread(_opened, sealed, conversation_id)
    return Speaking(model, contact_id, instructions, messages, said, knows)


def _opened(sealed: Any, conversation_id: UUID) -> str | None:
    """A conversation's own instructions, which few have."""
    field: Any = Conversation._meta.get_field("system_prompt")
    return None if sealed is None else field.opened(bytes(sealed), conversation_id)


def access_reply(conversation: Conversation, reply_id: UUID) -> Reply:
    """A reply of this conversation. Raises Problem `not_found`."""
    reply = Reply.objects.select_related("message").filter(pk=reply_id, conversation=conversation).first()
    if reply is None:
        raise Problem(Code.NOT_FOUND, "There is no such reply.")
    return reply


def access_assistant_message(conversation: Conversation, message_id: UUID) -> Message:
    """An assistant's message of this conversation. Raises Problem `not_found`."""
    message = conversation.messages.filter(pk=message_id, role=Role.ASSISTANT).first()
    if message is None:
        raise Problem(Code.NOT_FOUND, "There is no such assistant's message.")
    return message
