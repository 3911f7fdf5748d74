"""The statements of a turn write and read just what the models would."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from chatplatform import tenancy
from chatplatform.jobs import at_once
from chatplatform.llm.types import ModelRef, Usage
from conversations import selectors
from conversations.models import Conversation, Message, Reply, Work
from conversations.services import leases, settlement, statements
from conversations.services.settlement import Outcome
from conversations.vocabulary import ReplyStatus, Role
from tenants import keyring
from tenants.selectors import TenantState
from tenants.services.contacts import contact_for

HOLDER = "somebody:1"
OUTCOME = Outcome(
    ReplyStatus.COMPLETED,
    "Für immer: “jó” 👋\n",
    "stop",
    ModelRef("openai", "gpt-5.4-mini"),
    Usage(input_tokens=12, cached_input_tokens=3, cache_write_input_tokens=1, output_tokens=40),
    Decimal("0.0000125"),
    sources=[{"title": "A \"b\" 'c' %s", "url": None, "document_id": "1", "quote": "…", "score": 0.25}],
    degraded=True,
    notice="100 % different",
    error_code="",
    error_detail="",
    configuration=7,
    first_token_at=datetime(2026, 1, 2, 3, 4, 5, 678901, UTC),
)


def accepted(conversation: Conversation, question: str = "What now?", **options: Any) -> Reply:
    """A turn as it is when a worker takes it."""
    said = Message.objects.create(conversation=conversation, role=Role.USER, content=question)
    answer = Message.objects.create(conversation=conversation, role=Role.ASSISTANT)
    reply = Reply.objects.create(
        message=answer, user_message=said, conversation=conversation, options=options
    )
    tenant = tenancy.current_tenant()
    with tenancy.in_platform():
        Work.objects.create(id=reply.pk, tenant_id=tenant.id)
    return reply


def work_of(reply: Reply) -> Work:
    with tenancy.in_platform():
        return Work.objects.get(id=reply.pk)


def columns(instance: Any, but: tuple[str, ...] = ()) -> dict[str, Any]:
    fields = [field.attname for field in instance._meta.concrete_fields]
    return {name: getattr(instance, name) for name in fields if name not in but}


@pytest.fixture
def conversation(in_acme: TenantState) -> Conversation:
    return Conversation.objects.create(
        model="openai/x", fallback_model=["local", "é"], temperature=0.5, system_prompt="Be “kind” {tenant}."
    )


def begin(reply: Reply) -> statements.Begun:
    begun = at_once(statements.begin(reply.pk, HOLDER))
    assert begun is not None
    return begun


def test_beginning_takes_the_lease_and_marks_the_reply(conversation: Conversation) -> None:
    reply = accepted(conversation, max_tokens=5)
    with CaptureQueriesContext(connection) as asked:
        begun = begin(reply)
    assert len([query for query in asked if "set_config" not in query["sql"]]) == 1
    stored = Reply.objects.select_related("conversation").get(pk=reply.pk)
    assert (stored.status, stored.attempt) == (ReplyStatus.GENERATING, 1)
    assert stored.started_at is not None
    work = work_of(reply)
    assert (work.owner, work.attempt, work.state) == (HOLDER, 1, "pending")
    assert columns(begun.reply) == columns(stored)
    for name in statements.OF_CONVERSATION:
        assert getattr(begun.reply.conversation, name) == getattr(conversation, name)
    assert not begun.cancelled and not begun.knows


def test_the_end_users_key_comes_along(in_acme: TenantState) -> None:
    jane = contact_for("jane")
    reply = accepted(Conversation.objects.create(contact=jane), "What is sealed?")
    keyring._uncommitted.clear()  # as if what the test has written were
    assert Message.objects.get(pk=reply.user_message_id).content
    del keyring._kept[in_acme.ref.id, jane.id.bytes]
    with CaptureQueriesContext(connection) as asked:
        begun = begin(reply)
    assert len([query for query in asked if "set_config" not in query["sql"]]) == 1
    assert begun.said[-1].content == "What is sealed?"


def test_beginning_reads_the_last_twenty_messages_up_to_the_question(conversation: Conversation) -> None:
    for number in range(15):
        Message.objects.create(conversation=conversation, role=Role.USER, content=f"Question {number} é")
        Message.objects.create(conversation=conversation, role=Role.AGENT, content=f"Answer {number}")
    reply = accepted(conversation, "The last one")
    Message.objects.create(conversation=conversation, role=Role.USER, content="After it")
    elsewhere = Conversation.objects.create()
    Message.objects.create(conversation=elsewhere, role=Role.USER, content="Elsewhere")
    said = begin(reply).said
    assert len(said) == 20
    assert (said[-1].role, said[-1].content) == ("user", "The last one")
    assert (said[-2].role, said[-2].content) == ("assistant", "Answer 14")
    assert (said[-3].role, said[-3].content) == ("user", "Question 14 é")


def test_a_live_lease_is_not_taken_twice_and_one_that_ran_out_is(conversation: Conversation) -> None:
    reply = accepted(conversation)
    begin(reply)
    assert at_once(statements.begin(reply.pk, "another:2")) is None
    with tenancy.in_platform():
        Work.objects.filter(id=reply.pk).update(lease_expires_at=Now() - timedelta(seconds=1))
    again = at_once(statements.begin(reply.pk, "another:2"))
    assert again is not None and again.reply.attempt == 2
    assert work_of(reply).owner == "another:2"


def test_beginning_does_not_look_through_all_conversations(conversation: Conversation) -> None:
    Conversation.objects.bulk_create(Conversation() for _ in range(2000))
    reply = accepted(conversation)
    with connection.cursor() as cursor:
        values = {"reply": reply.pk, "holder": HOLDER, "seconds": 3}
        cursor.execute(f"EXPLAIN {statements.BEGIN.text}", values)
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "Scan using conversations_conversation_pkey" in plan, plan


def test_another_tenant_begins_nothing(conversation: Conversation, globex: TenantState) -> None:
    reply = accepted(conversation)
    with tenancy.in_tenant(globex.ref):
        assert at_once(statements.begin(reply.pk, HOLDER)) is None
    assert work_of(reply).attempt == 0


def test_settling_writes_what_the_models_would(conversation: Conversation) -> None:
    begun = begin(accepted(conversation))
    shape = at_once(settlement.settle(begun.reply, OUTCOME))
    stored = Reply.objects.select_related("message").get(pk=begun.reply.pk)
    assert shape == selectors.reply_as_json(stored)
    by_model = Reply.objects.get(pk=begun.reply.pk)
    for name in statements.SETTLED:
        setattr(by_model, name, getattr(stored, name))
    by_model.save()
    assert columns(Reply.objects.get(pk=by_model.pk)) == columns(stored)
    assert stored.message.content == OUTCOME.text
    assert (stored.status, stored.cost_usd, stored.sources) == ("completed", OUTCOME.cost, OUTCOME.sources)
    work = work_of(stored)
    assert (work.state, work.owner) == ("settled", "")


def test_every_column_of_a_reply_is_settled_or_known_before() -> None:
    """A new column must be thought of: the shape is made without reading the row again."""
    known = {"message", "created_at", "started_at", "user_message", "conversation", "attempt", "options"}
    names = {field.name for field in Reply._meta.concrete_fields}
    assert names - set(statements.SETTLED) - known == {
        "cache"
    }  # which is not used yet, and so has its default


def test_a_stale_attempt_settles_and_keeps_nothing(conversation: Conversation) -> None:
    begun = begin(accepted(conversation))
    Reply.objects.filter(pk=begun.reply.pk).update(attempt=F("attempt") + 1)
    statements.checkpoint([(begun.reply.pk, 1, "stale", None)])
    statements.hand_back(begun.reply, "stale")
    assert at_once(settlement.settle(begun.reply, OUTCOME)) is None
    stored = Reply.objects.select_related("message").get(pk=begun.reply.pk)
    assert (stored.status, stored.message.content) == ("generating", "")


def test_texts_are_kept_together(conversation: Conversation) -> None:
    other = Conversation.objects.create()
    one, two = begin(accepted(conversation)), begin(accepted(other))
    statements.checkpoint([(one.reply.pk, 1, "One é", None), (two.reply.pk, 1, "Two %s", None)])
    contents = [Message.objects.get(pk=begun.reply.pk).content for begun in (one, two)]
    assert contents == ["One é", "Two %s"]


def test_handing_back_keeps_the_text_and_frees_the_lease(conversation: Conversation) -> None:
    begun = begin(accepted(conversation))
    before = work_of(begun.reply).enqueued_at
    statements.hand_back(begun.reply, "So far")
    work = work_of(begun.reply)
    assert (work.owner, work.lease_expires_at, work.attempt, work.handed_back) == ("", None, 1, 1)
    assert work.enqueued_at > before
    assert Message.objects.get(pk=begun.reply.pk).content == "So far"
    assert begin(begun.reply).reply.attempt == 2


def test_many_deploys_are_not_many_deaths(conversation: Conversation) -> None:
    reply = accepted(conversation)
    for attempt in range(1, 8):
        reply = begin(reply).reply
        assert reply.attempt == attempt
        statements.hand_back(reply, "So far")
    begin(reply)  # and this one dies
    with tenancy.in_platform():
        Work.objects.filter(id=reply.pk).update(lease_expires_at=Now() - timedelta(seconds=1))
    assert [row[3] for row in leases.orphans()] == [1]


def test_orphans_are_found_once_and_by_the_databases_clock(conversation: Conversation) -> None:
    dead, lost, alive, ended = (accepted(Conversation.objects.create()) for _ in range(4))
    for reply in (dead, alive, ended):
        begun = begin(reply)
    assert at_once(settlement.settle(begun.reply, OUTCOME)) is not None
    long_ago = Now() - timedelta(seconds=60)
    with tenancy.in_platform():
        Work.objects.filter(id__in=[dead.pk, ended.pk]).update(lease_expires_at=long_ago)
        Work.objects.filter(id=lost.pk).update(enqueued_at=long_ago)
    found = {row[0]: row for row in leases.orphans()}
    assert set(found) == {dead.pk, lost.pk, ended.pk}
    ref = tenancy.current_tenant()
    assert found[dead.pk][1:] == (ref, "pending", 1)
    assert found[lost.pk][1:] == (ref, "pending", 0)
    assert found[ended.pk][1:] == (ref, "settled", 1)
    assert leases.orphans() == []


def test_what_waits_in_a_queue_is_sent_again_ever_more_seldom(conversation: Conversation) -> None:
    reply = accepted(conversation)

    def is_sent(age: float, waited: float, backlog: bool = True) -> bool:
        """Of a reply so many seconds old, whose job was sent so many seconds ago."""
        ago = [Now() - timedelta(seconds=seconds) for seconds in (age, waited)]
        with tenancy.in_platform():
            Work.objects.filter(id=reply.pk).update(created_at=ago[0], enqueued_at=ago[1])
        return bool(leases.orphans(backlog=backlog))

    assert [is_sent(age, age) for age in (5, 7)] == [False, True]
    assert [is_sent(20 + waited, waited) for waited in (7, 19, 21)] == [False, False, True]
    assert [is_sent(3600 + waited, waited) for waited in (59, 61)] == [False, True]
    # Nothing waits: what nobody has begun is lost.
    assert [is_sent(3600, waited, backlog=False) for waited in (5, 7)] == [False, True]


def test_what_could_not_be_sent_is_sent_as_soon_as_the_broker_is_back(conversation: Conversation) -> None:
    reply = accepted(conversation)
    with tenancy.in_platform():
        Work.objects.filter(id=reply.pk).update(created_at=Now() - timedelta(seconds=3600))
    assert leases.orphans(backlog=True) == []
    leases.not_sent([reply.pk])
    assert [row[0] for row in leases.orphans(backlog=True)] == [reply.pk]


def test_leases_are_renewed_together_and_only_ones_own(conversation: Conversation) -> None:
    mine, cancelled, anothers = (accepted(Conversation.objects.create()) for _ in range(3))
    for reply in (mine, cancelled):
        assert at_once(statements.begin(reply.pk, leases.OWNER)) is not None
    begin(anothers)
    with tenancy.in_platform():
        Work.objects.filter(id=cancelled.pk).update(cancel_requested=True)
    held, stopped = leases.renew([mine.pk, cancelled.pk, anothers.pk, uuid.uuid4()])
    assert (held, stopped) == ({mine.pk, cancelled.pk}, {cancelled.pk})
    leases.done([mine.pk])
    assert leases.renew([mine.pk]) == (set(), set())
