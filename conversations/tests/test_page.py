"""The visitor's page as the server writes it: what begins a conversation, and what is rendered."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from chatplatform import tenancy
from conversations import markdown, views
from conversations.models import Conversation, Message
from conversations.vocabulary import Role
from tenants.models import Contact
from tenants.selectors import TenantState

HOST = "acme.localhost"


@pytest.fixture
def browser(acme: TenantState) -> Client:
    """A browser without a cookie at Acme's host."""
    return Client(headers={"Host": HOST, "Accept": "text/html"})


def stored(tenant: TenantState) -> tuple[int, int]:
    with tenancy.in_tenant(tenant.ref):
        return Contact.objects.count(), Conversation.objects.count()


def opened(browser: Client) -> tuple[str, Any]:
    """The address of a new conversation, and the conversation."""
    address = browser.get("/")["Location"]
    return address, address.rsplit("/", 1)[1]


def test_a_first_visit_begins_a_conversation_and_the_next_finds_it(
    browser: Client, acme: TenantState
) -> None:
    contacts, conversations = stored(acme)
    assert browser.get("/")["Location"] == browser.get("/")["Location"]
    assert browser.head("/").status_code == 302
    assert stored(acme) == (contacts + 1, conversations + 1)


@pytest.mark.parametrize("purpose", ["prefetch", "prefetch;prerender"])
def test_a_prefetch_begins_none(browser: Client, acme: TenantState, purpose: str) -> None:
    before = stored(acme)
    answer = browser.get("/", headers={"Sec-Purpose": purpose})
    assert (answer.status_code, answer["Cache-Control"], answer.cookies) == (503, "no-store", {})
    assert stored(acme) == before


def test_a_head_begins_none(browser: Client, acme: TenantState) -> None:
    before = stored(acme)
    assert browser.head("/").status_code == 200
    assert stored(acme) == before


def test_the_page_shows_what_was_said_last(
    browser: Client, acme: TenantState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "SHOWN", 3)
    address, conversation = opened(browser)
    with tenancy.in_tenant(acme.ref):
        for number in range(5):
            Message.objects.create(conversation_id=conversation, role=Role.USER, content=f"said-{number}")
    html = browser.get(address).content.decode()
    assert [html.count(f"said-{number}") for number in range(5)] == [0, 0, 1, 1, 1]
    assert html.index("said-2") < html.index("said-3") < html.index("said-4")


def test_what_a_visitor_wrote_is_never_rendered(
    browser: Client, acme: TenantState, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered: list[str] = []

    def to_html(text: str) -> str:
        rendered.append(text)
        return ""

    monkeypatch.setattr(markdown, "to_html", to_html)
    address, conversation = opened(browser)
    with tenancy.in_tenant(acme.ref):
        for role in (Role.USER, Role.AGENT):
            Message.objects.create(conversation_id=conversation, role=role, content=f"**{role}**<b>")
    assert "**user**&lt;b&gt;" in browser.get(address).content.decode()
    assert rendered == ["**agent**<b>"]
