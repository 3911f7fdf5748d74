"""Staff find what was said by whole words, and nobody reads the words out of the index."""

from __future__ import annotations

import pytest
from django.db import connection

from chatplatform import tenancy
from conversations.models import Conversation, Message, MessageWords, Reply
from conversations.services import words
from conversations.tests.test_sealing import put, stored
from conversations.tests.test_staff import answered, talk
from conversations.vocabulary import ReplyStatus
from tenants.models import Contact
from tenants.selectors import TenantState
from tenants.services.contacts import contact_for


def found(q: str) -> list[str]:
    words.catch_up(100)
    return sorted(one.content for one in words.with_words(Message.objects.all(), q))


@pytest.mark.parametrize(
    ("q", "hits"),
    [
        ("anvils", 1),
        ("ANVILS  please", 1),
        ("please, anvils!", 1),
        ("anvil", 0),  # whole words
        ("anvils today", 0),  # all of them in one message
        ("strasse", 1),  # Straße
        ("ｃａｆé", 1),  # full-width letters
        ("42", 1),
        ("", 0),
        ("!", 0),
    ],
)
def test_whole_words_are_found_however_they_are_written(in_acme: TenantState, q: str, hits: int) -> None:
    talk(in_acme, "Anvils, please.", "Not today", "Café at Straße 42")
    assert len(found(q)) == hits


def test_a_reply_is_found_when_it_has_ended(in_acme: TenantState) -> None:
    conversation = talk(in_acme, "Anvils?")
    reply = answered(in_acme, conversation, "Plenty of anvils", status=ReplyStatus.GENERATING)
    assert found("anvils") == ["Anvils?"]
    Reply.objects.filter(pk=reply.pk).update(status=ReplyStatus.COMPLETED)
    assert found("anvils") == ["Anvils?", "Plenty of anvils"]


def test_tenants_have_different_indexes(in_acme: TenantState, globex: TenantState) -> None:
    ours = words.hashes_of(["anvils"])
    with tenancy.in_tenant(globex.ref):
        assert words.hashes_of(["anvils"]) != ours
    assert words.hashes_of(["anvils"]) == ours


def test_the_index_goes_with_the_contact(in_acme: TenantState) -> None:
    contact = contact_for("jane")
    talk(in_acme, "Anvils", contact=contact)
    talk(in_acme, "Anvils of others")
    assert len(found("anvils")) == 2
    Contact.objects.get(id=contact.id).delete()
    assert found("anvils") == ["Anvils of others"] and MessageWords.objects.count() == 1


def test_what_cannot_be_read_does_not_hold_up_the_rest(in_acme: TenantState) -> None:
    conversation = talk(in_acme, "Anvils one", "Anvils two")
    first, second = conversation.messages.order_by("id")
    put(first, "content", stored(second))
    assert words.catch_up(100) == 2 and words.catch_up(100) == 0
    assert words.with_words(Message.objects.all(), "anvils").values_list("id", flat=True).get() == second.id


def test_the_index_is_used(in_acme: TenantState) -> None:
    conversation = Conversation.objects.create()
    Message.objects.bulk_create(
        Message(conversation=conversation, role="user", content=f"word{n}") for n in range(300)
    )
    words.catch_up(300)
    wanted = words.with_words(Message.objects.all(), "word7")
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        assert "message_by_word" in wanted.explain()
    assert wanted.get().content == "word7"
