"""Beginning, rating, resolving and escalating conversations."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID

import structlog
from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction

from chatplatform import jobs, tenancy
from chatplatform.observability.context import request_id
from chatplatform.tenancy import TenantRef, current_tenant
from conversations.gateway import checked_model
from conversations.models import Conversation, Feedback, Message
from conversations.vocabulary import ConversationStatus
from tenants import selectors
from tenants.models import Contact

log = structlog.get_logger("conversations")
MAIL = "conversations.mail_escalation"


def begin(
    *,
    contact: Contact | None = None,
    model: str | None = None,
    fallback_model: list[str] | None = None,
    channel: str = "api",
    **overrides: Any,
) -> Conversation:
    """A new conversation. Raises Problem where a model is unknown, not allowed or has no price."""
    configuration = selectors.state(current_tenant().id).configuration
    for name in [*([model] if model else []), *(fallback_model or [])]:
        checked_model(name, configuration.allowed_models)
    return Conversation.objects.create(
        contact=contact,
        model=model or "",
        fallback_model=fallback_model or [],
        channel=channel,
        greeting=configuration.greeting,
        **overrides,
    )


def give_feedback(message: Message, rating: str, comment: str | None) -> Feedback:
    """A thumb on an assistant's message; replaces an earlier one."""
    feedback, _ = Feedback.objects.update_or_create(
        message=message, defaults={"rating": rating, "comment": comment or None}
    )
    return feedback


def rate(conversation: Conversation, stars: int, comment: str | None) -> Conversation:
    """One to five stars for the whole conversation; replaces an earlier rating."""
    conversation.stars, conversation.rating_comment = stars, comment or None
    conversation.save(update_fields=["stars", "rating_comment", "updated_at"])
    return conversation


def resolve(conversation: Conversation) -> Conversation:
    """Close it; the next message opens it again."""
    conversation.status = ConversationStatus.RESOLVED
    conversation.save(update_fields=["status", "updated_at"])
    return conversation


def escalate(conversation: Conversation, reason: str | None) -> Conversation:
    """Ask for a person: sets the status and mails the tenant's address, once per escalation.

    A worker sends the mail; while the broker is away, this request does. A mail is lost only with a broker that loses
    what it has taken, or with a mail server that stays away. The status tells the staff in any case.
    """
    with transaction.atomic():
        locked = Conversation.objects.select_for_update().get(pk=conversation.pk)
        already = locked.status == ConversationStatus.ESCALATED
        locked.status = ConversationStatus.ESCALATED
        locked.escalation_reason = reason or locked.escalation_reason
        locked.save(update_fields=["status", "escalation_reason", "updated_at"])
        if not already:
            transaction.on_commit(partial(_have_mailed, locked.pk, current_tenant()))
    return Conversation.objects.select_related("contact").get(pk=conversation.pk)


def _have_mailed(conversation_id: UUID, tenant: TenantRef) -> None:
    if jobs.enqueue(MAIL, str(conversation_id), tenant=tenant, request=request_id.get()):
        return
    try:
        with tenancy.in_tenant(tenant):
            mail_escalation(conversation_id)
    except Exception as error:  # it is committed: whoever asked is not to be told that it failed
        log.exception("escalation_not_mailed", conversation=str(conversation_id), exc_info=error)


def mail_escalation(conversation_id: UUID) -> bool:
    """Tell the tenant's people by mail; False if the tenant has set no address. Carries no message text."""
    state = selectors.state(current_tenant().id)
    address = state.configuration.escalation_email
    if not address:
        log.info("escalation_without_address", conversation=str(conversation_id))
        return False
    conversation = Conversation.objects.select_related("contact").get(pk=conversation_id)
    who = str(conversation.contact) if conversation.contact else "A visitor"
    send_mail(
        f"{state.name}: a conversation needs a person",
        f"{who} asked for a person.\n\nConversation: {conversation.pk}\nChannel: {conversation.channel}\n",
        settings.DEFAULT_FROM_EMAIL,
        [address],
    )
    return True
