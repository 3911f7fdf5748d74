"""Staff looks into tenants: exactly one at a time, and each look is logged."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, models
from django.utils import timezone

from billing.models import LedgerEntry
from billing.pricing import Price
from billing.services.metering import Rate
from billing.vocabulary import CallOutcome
from chatplatform import tenancy
from chatplatform.llm.types import ModelRef, Usage
from chatplatform.postgres.at_commit import write_pending
from chatplatform.postgres.models import uuid7
from chatplatform.postgres.router import home_of
from chatplatform.tenancy import Home
from chatplatform.testing.audit import written
from conversations.models import Conversation, Feedback, Message, Reply, Work
from conversations.services import attempts, words
from conversations.services.attempts import ProviderCall
from conversations.staff import listing, views
from tenants import audit
from tenants.models import AuditEntry, Contact, Tenant
from tenants.selectors import TenantState
from tenants.tests.console import Console, person
from tenants.vocabulary import TenantStatus

SHARED_ID = UUID("01890000-0000-7000-8000-000000000001")  # in both tenants


def talk(
    tenant: TenantState, *said: str, id: UUID | None = None, contact: Contact | None = None, **fields: Any
) -> Conversation:
    """A conversation in which the contact says these things, unanswered."""
    with tenancy.in_tenant(tenant.ref):
        if contact is not None:
            contact.save()
        conversation = Conversation.objects.create(id=id or uuid7(), contact=contact, **fields)
        for text in said:
            Message.objects.create(conversation=conversation, role="user", content=text)
    return conversation


def answered(tenant: TenantState, conversation: Conversation, text: str, **fields: Any) -> Reply:
    """The assistant's reply to what was said last."""
    with tenancy.in_tenant(tenant.ref):
        question = conversation.messages.filter(role="user").latest("id")
        message = Message.objects.create(conversation=conversation, role="assistant", content=text)
        shown = {"status": "completed", "attempt": 1, **fields}
        return Reply.objects.create(
            message=message, user_message=question, conversation=conversation, **shown
        )


def looks() -> list[tuple[str, str, str, Any]]:
    """Who looked, at which tenant, how, and at what."""
    write_pending(connection)
    with tenancy.in_platform():
        rows: Any = AuditEntry.objects.named().filter(object_kind="conversation").order_by("at")
        return list(rows.values_list("actor_name", "tenant_slug", "action", "object_id"))


@pytest.fixture
def looker(acme: TenantState, globex: TenantState) -> Console:
    """Support staff: may look at conversations, and nothing else."""
    return Console(person("looker", "conversations.view_conversation"))


@pytest.fixture
def both(acme: TenantState, globex: TenantState) -> None:
    """A conversation of the same id in both tenants, with different words."""
    talk(acme, "Anvils please", id=SHARED_ID, contact=Contact(name="Wile"))
    talk(globex, "Reactor on fire", id=SHARED_ID, contact=Contact(name="Homer"))


# --- One tenant at a time --------------------------------------------------------------------------------------


def test_the_list_holds_the_picked_tenants_conversations_alone(looker: Console, both: None) -> None:
    for slug, own, other in (("acme", "Anvils", "Reactor"), ("globex", "Reactor", "Anvils")):
        html = looker.text(f"conversations/{slug}/")
        assert own in html
        assert other not in html


def test_one_id_in_two_tenants_is_two_conversations(looker: Console, both: None) -> None:
    for slug, own, other in (("acme", "Anvils", "Reactor"), ("globex", "Reactor", "Anvils")):
        html = looker.text(f"conversations/{slug}/{SHARED_ID}/")
        assert own in html
        assert other not in html


def test_a_conversation_of_another_tenant_is_not_found(
    looker: Console, acme: TenantState, globex: TenantState
) -> None:
    theirs = talk(globex, "Reactor on fire")
    assert looker.get(f"conversations/acme/{theirs.id}/").status_code == 404


def test_a_search_stays_in_the_picked_tenant(looker: Console, both: None) -> None:
    assert "No conversation matches" in looker.text("conversations/acme/", q="reactor")
    assert "Reactor on fire" in looker.text("conversations/globex/", q="reactor")


def test_the_picker_remembers_the_tenant_and_can_be_made_to_forget(looker: Console, both: None) -> None:
    assert "Globex" in looker.text("conversations/")
    looker.text("conversations/globex/")
    assert looker.get("conversations/").headers["Location"] == "/admin/conversations/globex/"
    assert "Acme" in looker.text("conversations/", pick=1)
    assert "Acme" not in looker.text("conversations/", pick=1, q="glob")


def test_nothing_of_a_tenant_is_registered_with_the_generic_admin() -> None:
    from django.contrib import admin

    registered: list[type[models.Model]] = list(admin.site._registry)
    assert [model for model in registered if home_of(model) is Home.TENANT] == []


@pytest.mark.parametrize("slug", ["nobody", "acme.localhost", "..", "t_acme"])
def test_an_unknown_tenant_is_not_found(looker: Console, slug: str) -> None:
    assert looker.get(f"conversations/{slug}/").status_code == 404
    assert looks() == []


def test_a_tenant_without_a_schema_has_nothing_to_look_at(looker: Console) -> None:
    with tenancy.in_platform():
        Tenant.objects.filter(slug="acme").update(status=TenantStatus.REQUESTED)
    assert "not provisioned yet" in looker.text("conversations/acme/")
    assert looker.get(f"conversations/acme/{SHARED_ID}/").status_code == 404


# --- The log ---------------------------------------------------------------------------------------------------


def test_each_look_is_logged_with_who_where_and_what(looker: Console, both: None) -> None:
    looker.text("conversations/", pick=1)
    looker.text("conversations/acme/")
    looker.text("conversations/acme/", q="anvils", status="open")
    looker.text(f"conversations/globex/{SHARED_ID}/")
    assert looks() == [
        ("looker", "acme", "conversation.listed", ""),
        ("looker", "acme", "conversation.searched", ""),
        ("looker", "globex", "conversation.read", str(SHARED_ID)),
    ]
    assert written("data", kinds=["conversation"])[1] == (
        {"q": audit.digest("anvils"), "status": "open", "channel": ""},
    )


@pytest.mark.parametrize("broken", ["listing", "render"])
def test_a_look_is_logged_even_if_the_page_fails(
    acme: TenantState, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError(broken)

    monkeypatch.setattr(*{"listing": (listing, "listing", fail), "render": (views, "render", fail)}[broken])
    looker = Console(person("looker", "conversations.view_conversation"), raise_request_exception=False)
    assert looker.get("conversations/acme/").status_code == 500
    assert [look[2] for look in looks()] == ["conversation.listed"]


@pytest.mark.parametrize("path", ["", "acme/", f"acme/{SHARED_ID}/"])
def test_without_the_permission_nothing_is_seen_and_nothing_logged(both: None, path: str) -> None:
    newcomer = Console(person("newcomer", "tenants.view_tenant"))
    assert newcomer.get(f"conversations/{path}").status_code == 403
    visitor = Console(person("visitor", "conversations.view_conversation", staff=False))
    assert visitor.get(f"conversations/{path}").status_code == 302
    assert Console().get(f"conversations/{path}").status_code == 302
    assert looks() == []


# --- Finding ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "q",
    [
        "wile",
        "w.coyote@acme",
        "ext-7",
        "ANVILS urgently",
        "deliver twelve",
        "01890000-0000-7000-8000-000000000001",
    ],
)
def test_a_conversation_is_found_by_contact_id_and_words(looker: Console, acme: TenantState, q: str) -> None:
    contact = Contact(name="Wile E.", email="w.coyote@acme.example", external_id="ext-7")
    talk(acme, "Twelve anvils, urgently. Deliver them.", id=SHARED_ID, contact=contact)
    talk(acme, "Something else")
    html = looker.text("conversations/acme/", q=q)
    assert "Twelve anvils" in html
    assert "Something else" not in html


@pytest.mark.parametrize("q", ["%", "_", "anvils rocket", "'; DROP TABLE", "<script>", "ä\u202e😕"])
def test_a_search_for_what_is_not_there_finds_nothing(looker: Console, acme: TenantState, q: str) -> None:
    talk(acme, "Anvils please", contact=Contact(name="Wile"))
    html = looker.text("conversations/acme/", q=q)
    assert "No conversation matches" in html
    assert "<script>" not in html


def test_a_search_says_how_far_back_it_has_looked(
    looker: Console, acme: TenantState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(words, "MOST_IN_SEARCH", 4)
    monkeypatch.setattr(words, "BATCH", 2)
    talk(acme, "needle in the past")
    talk(acme, "a", "b", "c", "needle of today")
    html = looker.text("conversations/acme/", q="needle")
    assert html.count("/admin/conversations/acme/0") == 1
    assert "in 4 messages" in html and "indexed: 1 older" in html
    assert words.catch_up_everywhere() == 1
    html = looker.text("conversations/acme/", q="needle")
    assert html.count("/admin/conversations/acme/0") == 2
    assert "in 5 messages" in html and "searched, as" not in html


def test_status_and_channel_narrow_the_list(looker: Console, acme: TenantState) -> None:
    talk(acme, "words of one", status="open", channel="web")
    talk(acme, "words of two", status="escalated", channel="web")
    talk(acme, "words of three", status="escalated", channel="api")
    html = looker.text("conversations/acme/", status="escalated", channel="api")
    assert ("words of one" in html, "words of two" in html, "words of three" in html) == (False, False, True)
    wrong = looker.text("conversations/acme/", status="nonsense")
    assert "not one of the available choices" in wrong


def test_pages_follow_one_another_without_a_gap_in_both_directions(
    looker: Console, acme: TenantState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "PAGE", 2)
    made = [talk(acme, f"talk {number}").id for number in range(5)][::-1]
    seen = []
    query: dict[str, Any] = {}
    for _ in range(3):
        answer = looker.get("conversations/acme/", **query)
        seen.append([row.id for row in answer.context["listing"].rows])
        cursor = answer.context["listing"].older
        query = {"before": cursor}
    assert seen == [made[:2], made[2:4], made[4:]]
    assert cursor is None
    back = looker.get("conversations/acme/", after=made[4])
    assert [row.id for row in back.context["listing"].rows] == made[2:4]
    assert back.context["listing"].newer == made[2]


def test_the_list_counts_and_shows_the_first_words(looker: Console, acme: TenantState) -> None:
    conversation = talk(
        acme, "The very first words\n" + "x" * 500, channel="widget", contact=Contact(name="Wile")
    )
    answered(acme, conversation, "An answer")
    row = looker.get("conversations/acme/").context["listing"].rows[0]
    assert (row.contact, row.channel, row.messages) == ("Wile", "widget", 2)
    assert row.first_words.startswith("The very first words xxx")
    assert len(row.first_words) == listing.FIRST_WORDS


# --- Reading ---------------------------------------------------------------------------------------------------


def test_a_conversation_reads_as_a_chat_with_the_facts_of_each_reply(
    looker: Console, acme: TenantState
) -> None:
    conversation = talk(acme, "Where is **my** <b>anvil</b>?", contact=Contact(name="Wile"))
    now = timezone.now()
    reply = answered(
        acme,
        conversation,
        "It is *on its way*. ![x](https://evil.example/p.png) <script>alert(1)</script>",
        model="gpt-5.4-mini",
        provider="openai",
        attempt=2,
        input_tokens=1200,
        output_tokens=34,
        cost_usd=Decimal("0.000123000"),
        configuration=1,
        notice="A fallback answered.",
        sources=[
            {"title": "Delivery", "quote": "Two days.", "score": 0.81, "url": "https://acme.example/d"},
            {"title": "Trap", "quote": "", "score": 0.5, "url": "javascript:alert(1)"},
        ],
        completed_at=now + timedelta(seconds=2),
    )
    with tenancy.in_tenant(acme.ref):
        Feedback.objects.create(message_id=reply.pk, rating="down", comment="Not true")
    html = looker.text(f"conversations/acme/{conversation.id}/")
    assert "Where is **my** &lt;b&gt;anvil&lt;/b&gt;?" in html
    assert "<em>on its way</em>" in html
    assert "evil.example" not in html
    assert "<script>alert" not in html
    assert "javascript:" not in html.split('class="cp-chat"')[1]
    for fact in (
        "openai · gpt-5.4-mini",
        "1,200 in, 34 out",
        "$0.000123",
        "A fallback answered.",
        "Not true",
    ):
        assert fact in html, fact
    assert 'href="https://acme.example/d"' in html


def test_right_to_left_text_finds_its_own_direction(looker: Console, acme: TenantState) -> None:
    conversation = talk(acme, "مرحبا")
    html = looker.text(f"conversations/acme/{conversation.id}/")
    assert '<div class="cp-said is-plain" dir="auto">مرحبا</div>' in html


def test_a_failed_reply_says_why(looker: Console, acme: TenantState) -> None:
    conversation = talk(acme, "Hello?")
    answered(acme, conversation, "", status="failed", error_code="provider_unavailable", error_detail="Gone.")
    assert "provider_unavailable – Gone." in looker.text(f"conversations/acme/{conversation.id}/")


def test_every_call_to_a_model_is_shown(looker: Console, acme: TenantState, globex: TenantState) -> None:
    conversation = talk(acme, "Hello?")
    reply = answered(acme, conversation, "Here.", attempt=2)
    usage = Usage(input_tokens=1200, output_tokens=34)
    rate = Rate(Price(None, Decimal("2.3"), Decimal(0), Decimal(0), Decimal(10)))
    calls = [
        ProviderCall(
            ModelRef("openai", "gpt-4o"), CallOutcome.FAILED, timezone.now(), 30_040, error="timeout",
            phase="first_token", usage=usage, rate=rate, estimated=True,
        ),
        ProviderCall(
            ModelRef("openai", "gpt-4o"), CallOutcome.FAILED, timezone.now(), 80, error="overloaded", status=503
        ),
        ProviderCall(ModelRef("openai", "gpt-5"), CallOutcome.SKIPPED, timezone.now(), 0, error="circuit_open"),
    ]  # fmt: skip
    last = ProviderCall(ModelRef("llama", "<b>"), CallOutcome.COMPLETED, timezone.now(), 900, 120)
    with tenancy.in_tenant(acme.ref):
        attempts.record(reply, [last])
        reply.attempt = 1
        attempts.record(reply, calls)
        attempts.record(reply, calls)  # once more changes nothing
        assert LedgerEntry.objects.count() == 4
    with tenancy.in_tenant(globex.ref):
        assert LedgerEntry.objects.count() == 0
    html = " ".join(looker.text(f"conversations/acme/{conversation.id}/").split())
    for shown in (
        "4 calls to models", "timeout: no first token", "30.0 s", "1,200 in, 34 out", "estimated", "$0.0031",
        "overloaded (HTTP 503)", "80 ms", "circuit open", "&lt;b&gt;", "120 ms", "openai, attempt 1",
        "llama, attempt 2",
    ):  # fmt: skip
        assert shown in html, shown


def test_a_long_conversation_comes_in_pages(
    looker: Console, acme: TenantState, monkeypatch: pytest.MonkeyPatch
) -> None:
    from conversations.staff import reading

    monkeypatch.setattr(reading, "PAGE", 2)
    conversation = talk(acme, "one", "two", "three")
    newest = looker.get(f"conversations/acme/{conversation.id}/").context["transcript"]
    assert [bubble.text for bubble in newest.bubbles] == ["two", "three"]
    older = looker.get(f"conversations/acme/{conversation.id}/", before=newest.earlier).context["transcript"]
    assert [bubble.text for bubble in older.bubbles] == ["one"]
    assert older.earlier is None


# --- The dashboard ---------------------------------------------------------------------------------------------


def test_the_dashboard_counts_work_by_what_happens_to_it(acme: TenantState, globex: TenantState) -> None:
    now = timezone.now()
    rows: list[dict[str, Any]] = [
        {"attempt": 1, "lease_expires_at": now + timedelta(seconds=5)},
        {"attempt": 2, "lease_expires_at": now + timedelta(seconds=5)},
        {"attempt": 1, "lease_expires_at": now - timedelta(seconds=5)},
        {"lease_expires_at": None},
        {"state": "settled"},
    ]
    with tenancy.in_platform():
        for row in rows:
            Work.objects.create(tenant_id=acme.ref.id, **row)
        Work.objects.filter(lease_expires_at=None, state="pending").update(
            tenant_id=globex.ref.id, enqueued_at=now - timedelta(minutes=3)
        )
    root = Console(person("root", superuser=True))
    work = root.get("").context["work"]
    counts = {name: work[name] for name in ("in_progress", "waiting", "settling", "retried")}
    assert counts == {"in_progress": 2, "waiting": 2, "settling": 1, "retried": 1}
    assert (work["oldest"].tenant_id, work["late"]) == (globex.ref.id, True)


def test_the_dashboard_shows_nobody_what_they_may_not_see(acme: TenantState) -> None:
    html = Console(person("newcomer")).text("")
    assert "see nothing yet" in html
    assert "Replies, now" not in html


def test_the_dashboard_points_at_births_that_failed(acme: TenantState) -> None:
    with tenancy.in_platform():
        Tenant.objects.filter(slug="acme").update(status=TenantStatus.FAILED)
    html = Console(person("root", superuser=True)).text("")
    assert f"/admin/tenants/tenant/{acme.ref.id}/birth/" in html
