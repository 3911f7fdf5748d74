"""Forgetting an end user: the rows, the key that sealed them, and what was made out of them.

The key goes in the same transaction as the rows, and every process drops its copy, so that copies of the rows
elsewhere (backups, WAL, dead rows in a file) are no text any more for whoever has no older copy of the keys. What stays
are ids: in the usage ledger, without which no invoice could be explained, and in the audit log.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import Q

from billing.models import Hold
from billing.services import budgets
from billing.services.budgets import Account
from chatplatform import tenancy
from chatplatform.api.problem import Code, Problem
from chatplatform.tenancy import current_tenant
from conversations.models import Conversation, Reply, Work
from conversations.streaming import erasing, event_log
from conversations.vocabulary import RUNNING, ReplyStatus
from tenants import audit, control, keyring
from tenants.audit import certificates
from tenants.models import Contact, Tenant, TenantIdempotencyRecord
from tenants.services import key_leftovers, lifecycle
from tenants.vocabulary import AuditAction

log = structlog.get_logger("conversations.erasure")
SHOWN = {
    "conversation": "conversations",
    "message": "messages",
    "reply": "replies",
    "feedback": "feedback",
    "datakey": "keys",
    "kept_answers": "kept_answers",
}
KEPT = ["usage ledger, by id", "audit log, by id"]


def access_contact(name: str) -> Contact:
    """The contact of the current tenant with this external id, or this id. Raises Problem `not_found`."""
    found = Contact.objects.filter(external_id=name).first()
    if found is None and (id := _uuid(name)):
        found = Contact.objects.filter(id=id).first()
    if found is None:
        raise Problem(Code.NOT_FOUND, "There is no such contact.")
    return found


def erase_contact(contact: Contact) -> dict[str, Any]:
    """Remove a contact of the current tenant with all that is known of it: the certificate.

    Replies that are under way are stopped, and nothing more of them is written. Raises Contact.DoesNotExist, Problem
    (the tenant is on legal hold).
    """
    tenant = current_tenant()
    with tenancy.in_platform():
        lifecycle.check_no_hold(Tenant.objects.get(id=tenant.id))
    with transaction.atomic():
        contact = Contact.objects.select_for_update().get(id=contact.id)
        # Locked, so that nothing is said meanwhile.
        conversations = list(
            Conversation.objects.select_for_update().filter(contact=contact).values_list("id", flat=True)
        )
        replies = list(Reply.objects.filter(conversation__in=conversations).values_list("pk", flat=True))
        running, waiting = _stop(conversations)
        removed = _remove(contact, conversations, replies)
        key_leftovers.note()
        certificate = certificates.made(
            "contact",
            tenant=str(tenant.id),
            contact=str(contact.id),
            external_id=audit.digest(contact.external_id or ""),
            removed=removed,
            key_destroyed=bool(removed.get("keys")),
            kept=KEPT,
        )
        audit.record(AuditAction.CONTACT_ERASED, contact.id, certificate=certificate)
        transaction.on_commit(lambda: _forget(contact.id, conversations, replies, running))
        transaction.on_commit(lambda: _release(waiting))
    return certificate


def _stop(conversations: Sequence[UUID]) -> tuple[list[UUID], list[UUID]]:
    """Take the work on their replies away; a worker that is at one finds out, and can settle nothing. Gives back which
    replies run, and which of them nobody has begun."""
    # First the replies are locked, then their work rows, as whoever begins or settles one does.
    running = Reply.objects.select_for_update().filter(conversation__in=conversations, status__in=RUNNING)
    states = dict(running.order_by("pk").values_list("pk", "status"))
    with tenancy.in_platform():
        Work.objects.filter(id__in=states).delete()
    return list(states), [id for id, status in states.items() if status == ReplyStatus.QUEUED]


def _release(replies: Sequence[UUID]) -> None:
    """Give back what is held of budgets for replies that no worker will ever begin; a running one's worker does it."""
    for hold in Hold.objects.filter(reply__in=replies):
        budgets.settle(Account(hold.reply, hold.attempt, hold.conversation, hold.contact, hold.day))


def remove_conversations(conversations: Sequence[UUID], replies: Sequence[UUID]) -> dict[str, int]:
    """Delete conversations of the current tenant, whose replies these are, with all that hangs on them; how many rows
    of which table."""
    about = Q(reply_id__in=replies)
    for id in conversations:
        about |= Q(path__contains=str(id)) | Q(answer__id=str(id))
    counts = {"kept_answers": TenantIdempotencyRecord.objects.filter(about).delete()[0]}
    for rows in (Reply.objects.filter(pk__in=replies), Conversation.objects.filter(id__in=conversations)):
        for label, count in rows.delete()[1].items():
            counts[label.partition(".")[2].lower()] = count
    return counts


def _remove(contact: Contact, conversations: Sequence[UUID], replies: Sequence[UUID]) -> dict[str, int]:
    """Delete what belongs to a contact; how many rows of what."""
    counts = remove_conversations(conversations, replies)
    named = contact.external_id or str(contact.id)
    answers = TenantIdempotencyRecord.objects.filter(answer__end_user__external_id=named)
    counts["kept_answers"] += answers.delete()[0]
    # Not contact.delete(), which takes the id from the object: the certificate names it.
    for label, count in Contact.objects.filter(pk=contact.pk).delete()[1].items():
        counts[label.partition(".")[2].lower()] = count
    return {shown: counts.get(label, 0) for label, shown in SHOWN.items()}


def _forget(
    contact: UUID, conversations: Sequence[UUID], replies: Sequence[UUID], running: Sequence[UUID]
) -> None:
    keyring.drop(current_tenant().id, contact)
    for reply in running:
        control.publish("cancel_reply", reply_id=str(reply))
    try:
        erasing.erase_logs(conversations, replies)
    except event_log.RedisError as error:  # they expire, a quarter of an hour after their end
        log.warning("event_logs_not_erased", contact=str(contact), error=type(error).__name__)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
