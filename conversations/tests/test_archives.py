"""What a tenant has can be carried away, and elsewhere be the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from zipfile import ZipFile

import pytest
from django.apps import apps

from chatplatform import tenancy
from chatplatform.management.base import Error
from chatplatform.postgres.router import home_of
from chatplatform.tenancy import Home
from chatplatform.testing.commands import result_of
from conversations.models import Chunk, Conversation, Document, Feedback, Message, Reply
from conversations.services import archives, words
from conversations.tests.test_sealing import stored
from conversations.tests.test_staff import answered, talk
from tenants import secrets, selectors
from tenants.models import Contact, Tenant
from tenants.selectors import TenantState
from tenants.services import configuration, lifecycle, provisioning
from tenants.services.contacts import contact_for

SLUG = "carried"
SETTINGS = {"greeting": "Hi!", "daily_cost_budget_usd": Decimal("2.5"), "allowed_tools": ["a", "b"]}


def content() -> list[list[tuple[object, ...]]]:
    """What the current tenant has, as people would compare it."""
    return [
        list(Contact.objects.order_by("id").values_list("id", "external_id", "attributes", "created_at")),
        [
            (one.id, one.contact_id, one.system_prompt, one.metadata, one.created_at)
            for one in Conversation.objects.order_by("id")
        ],
        [(one.id, one.role, one.content, one.created_at) for one in Message.objects.order_by("id")],
        list(Reply.objects.order_by("pk").values_list("pk", "status", "cost_usd", "sources")),
        [(one.id, one.text, list(one.embedding), one.search) for one in Chunk.objects.order_by("id")],
        [(one.id, one.rating, one.comment, one.updated_at) for one in Feedback.objects.order_by("id")],
    ]


def fill(tenant: TenantState) -> None:
    with tenancy.in_tenant(tenant.ref):
        contact = contact_for("jane", attributes={"vip": True})
        said = "Für Jane: “jó” 👋"
        one = talk(tenant, said, contact=contact, system_prompt="Be kind.", metadata={"a": [1, None]})
        reply = answered(tenant, one, "Yes", cost_usd="0.000000123", sources=[{"title": "T"}])
        Feedback.objects.create(message=reply.message, rating="up", comment="Good")
        document = Document.objects.create(
            title="T", source="t.md", content_type="text/markdown", checksum="0"
        )
        Chunk.objects.create(
            document=document,
            position=1,
            text="Dogs are welcome.",
            embedding=[0.25, -0.5],
            embedding_model="m",
            dimension=2,
        )
        other = talk(tenant, "Of nobody")
        answered(tenant, other, "Well,", status="generating")


@pytest.fixture
def filled(in_acme: TenantState) -> TenantState:
    fill(in_acme)
    return in_acme


@pytest.fixture
def source(committed: None) -> Iterator[Tenant]:
    """A tenant with something in it, and afterwards neither it nor what was made out of it."""
    tenant, _, _ = provisioning.request_tenant("Source", "source", configuration=SETTINGS)
    tenant = provisioning.provision(tenant.id)
    fill(selectors.state(tenant.id))
    yield tenant
    for slug in ("source", SLUG):
        with suppress(Tenant.DoesNotExist):
            lifecycle.erase(slug)


def test_a_tenant_is_the_same_elsewhere_under_other_keys(source: Tenant, tmp_path: Path) -> None:
    file = tmp_path / "source.zip"
    rows = result_of("export_tenant", "source", str(file))["rows"]
    result_of("import_tenant", str(file), "--slug", SLUG)
    with tenancy.in_platform():
        made = Tenant.objects.get(slug=SLUG)
    version = configuration.current(made.ref)
    assert {name: getattr(version, name) for name in SETTINGS} == SETTINGS
    with tenancy.in_tenant(source.ref):
        before = content()
    with tenancy.in_tenant(made.ref):
        running = Reply.objects.filter(status="failed")
        assert running.count() == 1  # it was under way, and is nowhere now
        running.update(status="generating")
        assert content() == before and rows["conversations_message"] == 4
        message = Message.objects.earliest("id")
        assert b"Jane" not in stored(message)
        assert secrets.sealed_with(stored(message)) == message.conversation.contact_id
        words.catch_up(10)
        assert words.with_words(Message.objects.all(), "jane").get() == message
    lifecycle.erase("source")
    with tenancy.in_tenant(made.ref):
        assert Message.objects.earliest("id").content == message.content
    with pytest.raises(Error, match="taken"):
        result_of("import_tenant", str(file), "--slug", SLUG)


def test_every_table_of_a_tenant_is_carried_or_left_on_purpose() -> None:
    of_tenants = {model for model in apps.get_models() if home_of(model) is Home.TENANT}
    assert of_tenants == {*archives.CARRIED, *archives.LEFT}


def test_a_contacts_archive_has_its_own_and_nothing_else(filled: TenantState, tmp_path: Path) -> None:
    file = tmp_path / "jane.zip"
    rows = result_of("export_tenant", "acme", str(file), "--contact", "jane")["rows"]
    assert {name: count for name, count in rows.items() if count} == {
        "tenants_contact": 1,
        "conversations_conversation": 1,
        "conversations_message": 2,
        "conversations_reply": 1,
        "conversations_feedback": 1,
    }
    with ZipFile(file) as archive:
        text = archive.read("conversations_message.jsonl").decode()
    assert "“jó” 👋" in text and "nobody" not in text
    assert file.stat().st_mode & 0o077 == 0
    with pytest.raises(Error, match="there already"):
        result_of("export_tenant", "acme", str(file))


@pytest.mark.parametrize("wrong", ["changed", "not a zip", "contact"])
def test_an_archive_that_is_not_whole_makes_nothing(filled: TenantState, tmp_path: Path, wrong: str) -> None:
    good, bad = tmp_path / "good.zip", tmp_path / "bad.zip"
    archives.export_contact(contact_for("jane"), good) if wrong == "contact" else result_of(
        "export_tenant", "acme", str(good)
    )
    with ZipFile(good) as source, ZipFile(bad, "w") as target:
        for name in source.namelist():
            text = source.read(name)
            target.writestr(name, text.replace(b"Jane", b"John") if wrong == "changed" else text)
    if wrong == "not a zip":
        bad.write_text("{}")
    with pytest.raises(Error):
        result_of("import_tenant", str(bad), "--slug", SLUG)
    with tenancy.in_platform():
        assert not Tenant.objects.filter(slug=SLUG).exists()
