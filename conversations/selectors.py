"""Reads across relations, and the public shapes of what the conversations app holds (CONTRACT §5)."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from chatplatform.tenancy import current_tenant
from conversations.models import Conversation, Message, Reply
from conversations.vocabulary import RUNNING, Role
from tenants.models import Contact


def reply_or_none(reply_id: UUID) -> Reply | None:
    """The reply with its text, or None."""
    return Reply.objects.select_related("message").filter(pk=reply_id).first()


def messages_of(conversation: Conversation) -> QuerySet[Message]:
    """All that was said, oldest first, with the replies."""
    return conversation.messages.select_related("reply", "feedback").order_by("id")


def running_reply(conversation: Conversation) -> Reply | None:
    """The reply that is queued or being generated, if there is one."""
    return (
        Reply.objects.select_related("message").filter(conversation=conversation, status__in=RUNNING).first()
    )


def conversation_as_json(conversation: Conversation) -> dict[str, Any]:
    """The public shape of a conversation."""
    return {
        "id": str(conversation.id),
        "tenant": current_tenant().slug,
        "status": conversation.status,
        "channel": conversation.channel,
        "end_user": _contact_as_json(conversation.contact),
        "model": conversation.model or None,
        "metadata": conversation.metadata,
        "greeting": conversation.greeting,
        "created_at": _time(conversation.created_at),
        "updated_at": _time(conversation.updated_at),
    }


def message_as_json(message: Message) -> dict[str, Any]:
    """The public shape of a message; an assistant's carries its reply."""
    reply = message.reply if message.role == Role.ASSISTANT else None
    return {
        "id": str(message.id),
        "role": message.role,
        "content": message.content,
        "created_at": _time(message.created_at),
        "reply": reply_as_json(reply, message.content) if reply is not None else None,
    }


def reply_as_json(reply: Reply, content: str | None = None) -> dict[str, Any]:
    """The public shape of a reply; `content` is its text, where its message is not at hand."""
    return {
        "id": str(reply.pk),
        "status": reply.status,
        "content": reply.message.content if content is None else content,
        "model": reply.model or None,
        "provider": reply.provider or None,
        "finish_reason": reply.finish_reason or None,
        "usage": {
            "input_tokens": reply.input_tokens,
            "cached_input_tokens": reply.cached_input_tokens,
            "cache_write_input_tokens": reply.cache_write_input_tokens,
            "output_tokens": reply.output_tokens,
        },
        "cost_usd": f"{reply.cost_usd:f}",
        "cache": reply.cache or None,
        "sources": reply.sources,
        "attempts": reply.attempt,
        "degraded": reply.degraded,
        "notice": reply.notice or None,
        "error": {"code": reply.error_code, "detail": reply.error_detail} if reply.error_code else None,
        "timing": {
            "queued_ms": _milliseconds(reply.created_at, reply.started_at),
            "first_token_ms": _milliseconds(reply.created_at, reply.first_token_at),
            "total_ms": _milliseconds(reply.created_at, reply.completed_at),
        },
        "created_at": _time(reply.created_at),
        "completed_at": _time(reply.completed_at),
    }


def _contact_as_json(contact: Contact | None) -> dict[str, Any] | None:
    if contact is None:
        return None
    shown: dict[str, Any] = {"external_id": contact.external_id}
    if contact.name:
        shown["name"] = contact.name
    if contact.email:
        shown["email"] = contact.email
    if contact.attributes:
        shown["attributes"] = contact.attributes
    return shown


def _time(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment else None


def _milliseconds(start: datetime, end: datetime | None) -> int | None:
    return round((end - start).total_seconds() * 1000) if end else None
