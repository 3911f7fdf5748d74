"""The one statement that stores a message writes what the models would."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.db import IntegrityError, connection
from django.db.transaction import atomic
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing.services.budgets import Account, Amount, Limits
from chatplatform import jobs, tenancy
from conversations.models import Conversation, Message, Reply, Work
from conversations.services import conversations, storing
from conversations.services.conversations import begin
from conversations.vocabulary import ConversationStatus, ReplyStatus, Role
from tenants import secrets
from tenants.selectors import TenantState
from tenants.services.contacts import contact_for

OPTIONS = {"use_cache": False, "max_tokens": 7, "tools": ['100% "new"']}
TEXT = "Where's my 100 % \\ “order”?\n"


def by_statement(conversation: Conversation, client_id: str | None) -> tuple[Message, Message]:
    about: Any = {"conversation": conversation, "created_at": timezone.now()}
    said = Message(role=Role.USER, content=TEXT, client_id=client_id, **about)
    answer = Message(role=Role.ASSISTANT, **about)
    account = Account(answer.id, 1, conversation.id, conversation.contact_id, said.created_at.date())
    jobs.at_once(storing.store(said, answer, OPTIONS, account, Amount(Decimal("0.5"), 9), Limits()))
    return said, answer


def by_models(
    tenant: TenantState, conversation: Conversation, client_id: str | None
) -> tuple[Message, Message]:
    said = Message.objects.create(
        conversation=conversation, role=Role.USER, content=TEXT, client_id=client_id
    )
    answer = Message.objects.create(conversation=conversation, role=Role.ASSISTANT)
    Reply.objects.create(message=answer, user_message=said, conversation=conversation, options=OPTIONS)
    with tenancy.in_platform():
        Work.objects.create(id=answer.id, tenant_id=tenant.ref.id)
    return said, answer


def row(table: str, key: str, identity: UUID) -> dict[str, Any]:
    """A row as PostgreSQL has it, sealed bytes included."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {table} WHERE {key} = %s", [identity])
        names = [column.name for column in cursor.description]
        [values] = cursor.fetchall()
    return dict(zip(names, values, strict=True))


def rows(conversation: Conversation, said: Message, answer: Message) -> list[dict[str, Any]]:
    """All rows of one turn, with names for its ids; times only as being there."""
    names: dict[Any, str] = {conversation.id: "conversation", said.id: "said", answer.id: "answer"}
    found = [row("conversations_message", "id", message.id) for message in (said, answer)]
    for message in found:  # never twice the same bytes
        sealed_with, text = (
            secrets.sealed_with(message["content"]),
            Message.opened(message["content"], message["id"]),
        )
        message["content"] = sealed_with, text
    found.append(row("conversations_reply", "message_id", answer.id))
    with tenancy.in_platform():
        found.append(row("conversations_work", "id", answer.id))
    return [
        {
            column: names.get(value, "at a time") if value in names or hasattr(value, "tzinfo") else value
            for column, value in (
                (name, bytes(v) if isinstance(v, memoryview) else v) for name, v in one.items()
            )
        }
        for one in found
    ]


@pytest.mark.parametrize("client_id", [None, "c-1 %s"])
def test_the_rows_are_those_of_the_models(in_acme: TenantState, client_id: str | None) -> None:
    one, other = conversations.begin(), conversations.begin()
    with CaptureQueriesContext(connection) as captured:
        stored = rows(one, *by_statement(one, client_id))
    assert len([query for query in captured if "INSERT INTO conversations_message" in query["sql"]]) == 1
    assert stored == rows(other, *by_models(in_acme, other, client_id))


def test_text_is_sealed_under_its_contacts_key(in_acme: TenantState) -> None:
    contact = contact_for("jane")
    for conversation, key in [(begin(contact=contact), contact.id), (begin(), in_acme.ref.id)]:
        said, answer = by_statement(conversation, None)
        stored = bytes(row("conversations_message", "id", said.id)["content"])
        assert secrets.sealed_with(stored) == key and b"order" not in stored
        assert Message.objects.get(pk=said.pk).content == TEXT
        assert Message.objects.get(pk=answer.pk).content == ""


@pytest.mark.parametrize(
    ("before", "after"),
    [("open", "open"), ("resolved", "open"), ("escalated", "escalated")],
)
def test_a_message_opens_what_was_resolved(in_acme: TenantState, before: str, after: str) -> None:
    conversation, untouched = conversations.begin(), conversations.resolve(conversations.begin())
    Conversation.objects.filter(pk=conversation.pk).update(status=before)
    said, _ = by_statement(conversation, None)
    conversation.refresh_from_db()
    assert (conversation.status, conversation.updated_at) == (after, said.created_at)
    untouched.refresh_from_db()
    assert untouched.status == ConversationStatus.RESOLVED


def test_a_running_reply_refuses_all_of_the_next(in_acme: TenantState) -> None:
    conversation = conversations.begin()
    _, answer = by_statement(conversation, None)
    with pytest.raises(IntegrityError, match="one_running_reply"), atomic():
        by_statement(conversation, None)
    assert conversation.messages.count() == 2
    Reply.objects.filter(pk=answer.id).update(status=ReplyStatus.COMPLETED)
    by_statement(conversation, None)
    assert conversation.messages.count() == 4


def test_a_client_id_is_stored_once(in_acme: TenantState) -> None:
    conversation = conversations.begin()
    _, answer = by_statement(conversation, "c-1")
    Reply.objects.filter(pk=answer.id).update(status=ReplyStatus.COMPLETED)
    with pytest.raises(IntegrityError, match="message_once"), atomic():
        by_statement(conversation, "c-1")
    by_statement(conversations.begin(), "c-1")
