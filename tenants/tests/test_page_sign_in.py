"""Signing in to a tenant's chat page with a token."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.test import Client

from chatplatform import tenancy
from chatplatform.testing.backend import pair
from tenants.selectors import TenantState
from tenants.services import configuration, token_issuers
from tenants.tests.tokens import contact_of, fresh, register, ticket_of

__all__ = ["fresh"]


@pytest.fixture
def browser(fresh: TenantState) -> Client:
    register(fresh, pair("ES256"))
    return Client(headers={"Host": "acme.localhost", "Accept": "text/html"}, enforce_csrf_checks=True)


def sign_in(browser: Client, token: str, origin: str | None = "http://acme.localhost") -> Any:
    headers = {"Origin": origin} if origin is not None else {}
    return browser.post("/session", {"token": token}, headers=headers)


def test_a_token_opens_the_page_for_its_end_user(browser: Client, fresh: TenantState) -> None:
    answer = sign_in(browser, ticket_of(pair("ES256")))
    assert (answer.status_code, answer["Location"], answer["Cache-Control"]) == (303, "/", "no-store")
    cookie = answer.cookies["cp_visitor"]
    assert 0 < cookie["max-age"] <= 70, "as long as the token, not half a year"
    assert cookie["httponly"]
    page = browser.get("/")["Location"]
    assert browser.get(page).status_code == 200
    assert "cp_visitor" in browser.get(page).cookies
    assert browser.get(page).cookies["cp_visitor"]["max-age"] <= 70, "and a visit does not make it longer"
    with tenancy.in_tenant(fresh.ref):
        (conversation,) = contact_of(fresh, "ada").conversations.all()
    assert page.endswith(str(conversation.pk))


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "",
        "null",
        "https://evil.example",
        "http://globex.localhost",
        "http://acme.localhost.evil.example",
    ],
)
def test_no_other_site_signs_its_visitors_in(browser: Client, origin: str | None) -> None:
    answer = sign_in(browser, ticket_of(pair("ES256")), origin)
    assert answer.status_code == 403
    assert "cp_visitor" not in answer.cookies


def test_a_widget_origin_may(browser: Client, fresh: TenantState) -> None:
    configuration.change(
        fresh.ref, {"widget_origins": ["https://shop.example"]}, author="test", by_staff=True
    )
    assert sign_in(browser, ticket_of(pair("ES256")), "https://shop.example").status_code == 303


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "cp_live_000000000000_x"])
def test_without_a_good_token_nobody_is_signed_in(browser: Client, token: str) -> None:
    answer = sign_in(browser, token)
    assert answer.status_code == 401
    assert "cp_visitor" not in answer.cookies


def test_a_session_ends_with_what_it_stands_on(browser: Client, fresh: TenantState) -> None:
    sign_in(browser, ticket_of(pair("ES256")))
    page = browser.get("/")["Location"]
    token_issuers.remove(fresh.ref, token_issuers.of_tenant(fresh.ref.id)[0].id)
    assert browser.get(page).status_code == 404
    assert browser.get("/")["Location"] != page, "somebody nobody knows"


def test_a_session_ends_when_its_token_does(browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    sign_in(browser, ticket_of(pair("ES256")))
    page = browser.get("/")["Location"]
    later = time.time() + 71
    monkeypatch.setattr(time, "time", lambda: later)
    assert browser.get(page).status_code == 404


def test_signing_in_is_for_tenants_hosts(browser: Client) -> None:
    answer = Client(headers={"Host": "localhost", "Accept": "text/html"}).post("/session", {"token": "x"})
    assert answer.status_code == 404
    assert browser.get("/session").status_code == 405
