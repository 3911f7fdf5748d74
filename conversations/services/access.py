"""The only ways to an object of a conversation: what is not the caller's is not found."""

from __future__ import annotations

from uuid import UUID

from chatplatform.api.problem import Code, Problem
from chatplatform.postgres.prepared import Statement
from conversations.models import Conversation, Message, Reply
from conversations.vocabulary import Role
from tenants.auth.principal import Principal

NO_CONVERSATION = "There is no such conversation."
SPEAKING = Statement("""
    SELECT model, contact_id FROM conversations_conversation
    WHERE id = %(id)s AND (contact_id = %(contact)s OR %(contact)s IS NULL)
""")


def access_conversation(principal: Principal, conversation_id: UUID) -> Conversation:
    """The conversation, if the caller may see it. Raises Problem `not_found`."""
    rows = Conversation.objects.select_related("contact")
    if principal.contact_id is not None:
        rows = rows.filter(contact_id=principal.contact_id)
    conversation = rows.filter(pk=conversation_id).first()
    if conversation is None:
        raise Problem(Code.NOT_FOUND, NO_CONVERSATION)
    return conversation


def speaking_in(principal: Principal, conversation_id: UUID) -> tuple[str, UUID | None]:
    """The model that a conversation was begun with (empty for the tenant's choice) and its end user, if the caller may
    speak in it.

    The cheap way for whoever needs no more. Raises Problem `not_found`.
    """
    rows = SPEAKING.run({"id": conversation_id, "contact": principal.contact_id})
    if not rows:
        raise Problem(Code.NOT_FOUND, NO_CONVERSATION)
    model, contact_id = rows[0]
    return model, contact_id


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
