"""Signing in to a tenant's console and to the staff's: sessions, their cookies, and how often one may try."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.http import HttpRequest
from django.test import Client
from django.utils import timezone

from chatplatform import jobs, tenancy
from chatplatform.api.problem import Problem
from chatplatform.observability.context import client_address
from chatplatform.observability.middleware import address_of
from tenants.auth import contacts, members
from tenants.auth.passwords import Tries
from tenants.models import MemberSession, SignInTries, User
from tenants.selectors import TenantState
from tenants.services import member_sessions
from tenants.services import members as service
from tenants.tests.console import Console, person
from tenants.tests.people import PASSWORD, Desk, member
from tenants.vocabulary import MemberRole


def later(seconds: float) -> None:
    """As if that much time had passed since all tries."""
    with tenancy.in_platform():
        for row in SignInTries.objects.all():
            row.began_at -= timedelta(seconds=seconds)
            row.save()


# --- Sessions ------------------------------------------------------------------------------------------------------
def test_the_right_password_opens_the_console_and_signing_out_closes_it(acme: TenantState) -> None:
    member(acme)
    desk = Desk(acme)
    assert desk.get("").headers["Location"] == "/console/sign-in?next=%2Fconsole%2F"
    assert desk.sign_in("owner@example.com", "wrong").status_code == 403
    assert not desk.is_in()
    assert desk.sign_in("owner@example.com").headers["Location"] == "/console/"
    assert desk.is_in()
    desk.post("sign-out")
    assert not desk.is_in()


@pytest.mark.parametrize(
    ("wanted", "reached"),
    [
        ("/console/usage%3Fmonth=2026-10", "/console/usage?month=2026-10"),
        ("https://evil.example/console/", "/console/"),
        ("//evil.example/console/", "/console/"),
        ("/console/%0d%0aX:1", "/console/"),
        ("/c/new", "/console/"),
    ],
)
def test_after_it_comes_the_page_that_was_wanted_if_it_is_one(
    acme: TenantState, wanted: str, reached: str
) -> None:
    member(acme)
    assert Desk(acme).sign_in("owner@example.com", next=wanted).headers["Location"] == reached


def test_the_cookie_is_for_this_host_and_no_script(acme: TenantState) -> None:
    member(acme)
    cookie = Desk(acme).sign_in("owner@example.com").cookies[members.COOKIE]
    assert (cookie["httponly"], cookie["samesite"], cookie["path"], cookie["domain"]) == (
        True,
        "Lax",
        "/",
        "",
    )
    with tenancy.in_platform():
        stored = bytes(MemberSession.objects.get().token_hash)
    assert cookie.value.encode() not in stored


def test_a_session_of_one_tenant_is_nothing_at_another(acme: TenantState, globex: TenantState) -> None:
    token = member_sessions.start(member(acme), agent="")
    member(globex)
    theirs = Desk(globex)
    theirs.client.cookies[members.COOKIE] = token
    assert not theirs.is_in()
    assert member_sessions.find(acme.ref, token) and not member_sessions.find(globex.ref, token)


@pytest.mark.parametrize("field", ["seen_at", "created_at"])
def test_a_session_ends_by_itself(acme: TenantState, field: str) -> None:
    desk = Desk(acme, member(acme))
    assert desk.is_in()
    with tenancy.in_platform():
        MemberSession.objects.update(**{field: timezone.now() - timedelta(days=31)})
    assert not desk.is_in()


def test_sessions_are_listed_and_can_be_ended(acme: TenantState) -> None:
    ada, other = member(acme, email="ada@example.com"), member(acme, MemberRole.ADMIN)
    here, elsewhere, theirs = Desk(acme, ada), Desk(acme, ada), Desk(acme, other)
    assert here.text("account").count("last seen") == 2
    with tenancy.in_platform():
        _, second = MemberSession.objects.filter(membership=ada).order_by("created_at")
    assert theirs.post(f"account/sessions/{second.pk}/end").status_code == 404
    here.post(f"account/sessions/{second.pk}/end")
    assert here.is_in() and not elsewhere.is_in() and theirs.is_in()
    third = Desk(acme, ada)
    here.post("account/sessions/end-others")
    assert here.is_in() and not third.is_in() and theirs.is_in()


def test_a_visitor_stays_the_same_when_a_member_signs_in_and_out(acme: TenantState) -> None:
    member(acme)
    desk = Desk(acme)
    desk.client.get("/")
    visitor = desk.client.cookies[contacts.COOKIE].value
    desk.sign_in("owner@example.com")
    desk.post("sign-out")
    assert desk.client.cookies[contacts.COOKIE].value == visitor


def test_a_form_of_another_site_is_refused(acme: TenantState) -> None:
    member(acme)
    desk = Desk(acme, enforce_csrf_checks=True)
    assert desk.sign_in("owner@example.com").status_code == 403
    assert not desk.client.cookies.get(members.COOKIE)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "unknown.example"])
def test_only_tenants_hosts_have_it(acme: TenantState, host: str) -> None:
    assert Client(headers={"host": host, "accept": "text/html"}).get("/console/sign-in").status_code == 404


def test_a_page_that_is_none_leads_back_to_the_console(acme: TenantState) -> None:
    desk = Desk(acme)
    assert 'href="/console/"' in desk.get("nowhere").content.decode()
    assert 'href="/"' in desk.client.get("/admin/nowhere").content.decode()
    staff = Client(headers={"host": "localhost", "accept": "text/html"})
    assert 'href="/"' in staff.get("/console/nowhere").content.decode()


def test_pages_are_kept_nowhere_and_have_the_strict_policy(acme: TenantState) -> None:
    for answer in (Desk(acme).get("sign-in"), Desk(acme, member(acme)).get("account")):
        assert answer.headers["Cache-Control"] == "no-store"
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert b"style=" not in answer.content and b"<script" not in answer.content


def test_a_member_is_no_staff(acme: TenantState) -> None:
    ada = member(acme)
    assert "/admin/login/" in Console(ada.user).get("").headers["Location"]
    with tenancy.in_platform():
        name = User.objects.get(pk=ada.user_id).username
    assert Console().post("login/", username=name, password=PASSWORD).status_code == 200
    assert name not in Console(person("root", superuser=True)).text("tenants/user/")


def test_passwords_are_hashed_with_argon2_and_older_hashes_at_the_next_sign_in(acme: TenantState) -> None:
    ada = member(acme)
    with tenancy.in_platform():
        User.objects.filter(pk=ada.user_id).update(
            password=PBKDF2PasswordHasher().encode(PASSWORD, "salt", iterations=1000)
        )
    assert Desk(acme).sign_in("owner@example.com").status_code == 302
    with tenancy.in_platform():
        assert User.objects.get(pk=ada.user_id).password.startswith("argon2$argon2id$v=19$m=19456,t=2,p=1$")


# --- Tries ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def few_tries(settings: Any) -> None:
    settings.SIGN_IN_TRIES_PER_ACCOUNT, settings.SIGN_IN_TRIES_PER_ADDRESS = 3, 7


def test_above_the_limit_not_even_the_right_password_opens(acme: TenantState, few_tries: None) -> None:
    member(acme)
    desk = Desk(acme)
    for _ in range(3):
        assert "is wrong" in desk.sign_in("owner@example.com", "wrong").content.decode()
    for _ in range(5):
        assert "Wait 15 minutes" in desk.sign_in("owner@example.com").content.decode()
    later(899)
    assert "Wait 1 seconds" in desk.sign_in("owner@example.com").content.decode()
    later(2)  # the refused ones did not count
    assert desk.sign_in("owner@example.com").status_code == 302


def test_the_right_password_forgets_the_wrong_ones(acme: TenantState, few_tries: None) -> None:
    member(acme)
    for _ in range(4):
        Desk(acme).sign_in("owner@example.com", "wrong")
        assert Desk(acme).sign_in("owner@example.com").status_code == 302
        with tenancy.in_platform():
            SignInTries.objects.filter(tries__gt=0).update(tries=0)  # the address keeps the wrong ones


def test_an_address_is_limited_over_all_accounts(acme: TenantState, few_tries: None) -> None:
    member(acme)
    for number in range(7):
        Desk(acme).sign_in(f"{number}@example.com", "wrong")
    assert "Too many tries" in Desk(acme).sign_in("owner@example.com").content.decode()
    elsewhere = Desk(acme, REMOTE_ADDR="192.0.2.7")
    assert elsewhere.sign_in("owner@example.com").status_code == 302


def test_an_account_that_is_not_there_is_limited_all_the_same(acme: TenantState, few_tries: None) -> None:
    said = [Desk(acme).sign_in("nobody@example.com", "x").content.decode() for _ in range(4)]
    assert ["is wrong" in one for one in said] == [True, True, True, False]


def test_tenants_do_not_share_tries(acme: TenantState, globex: TenantState, few_tries: None) -> None:
    for tenant in (acme, globex):
        member(tenant)
    for _ in range(3):
        Desk(acme).sign_in("owner@example.com", "wrong")
    assert Desk(globex).sign_in("owner@example.com").status_code == 302


def test_a_link_that_was_followed_opens_a_locked_account(acme: TenantState, few_tries: None) -> None:
    from tenants.services import member_links

    ada = member(acme)
    for _ in range(3):
        Desk(acme).sign_in("owner@example.com", "wrong")
    with tenancy.in_platform():
        token = member_links.make(member_links.Link.RESET, ada)
    service.follow_link(member_links.Link.RESET, acme.ref, token, PASSWORD)
    assert Desk(acme).sign_in("owner@example.com").status_code == 302


def test_links_are_not_sent_without_end(acme: TenantState, few_tries: None) -> None:
    answers = [Desk(acme).post("forgot", email="ada@example.com").status_code for _ in range(4)]
    assert answers == [302, 302, 302, 403]


def test_invitations_are_not_sent_without_end(acme: TenantState, few_tries: None) -> None:
    desk = Desk(acme, member(acme))
    said = [
        desk.post("members/invite", email=f"{n}@example.com", role="viewer").status_code for n in range(4)
    ]
    assert said == [302, 302, 302, 200]


def test_signing_in_again_leaves_no_session_behind(acme: TenantState) -> None:
    ada = member(acme)
    desk = Desk(acme)
    for _ in range(2):
        desk.sign_in("owner@example.com")
    with tenancy.in_platform():
        assert MemberSession.objects.filter(membership=ada).count() == 1


def test_staff_are_limited_too(acme: TenantState, few_tries: None) -> None:
    person("root", superuser=True)
    for _ in range(3):
        assert "correct username" in sign_in("root", "wrong")
    assert "Too many tries" in sign_in("root", PASSWORD)
    later(900)
    assert sign_in("ROOT", "wrong") and sign_in("root", PASSWORD) == ""


def sign_in(username: str, password: str) -> str:
    """The page that a sign-in to the staff console ends at; empty if it is the console itself."""
    answer = Console().post("login/", username=username, password=password)
    return "" if answer.status_code == 302 else str(answer.content.decode())


def test_tries_at_once_are_all_counted(committed: None) -> None:
    def take(_: int) -> bool:
        try:
            Tries(None, "parallel").take()
        except Problem:
            return False
        finally:
            jobs.close_connections()
        return True

    try:
        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(take, range(40))) == 10
    finally:
        with tenancy.in_platform():
            SignInTries.objects.all().delete()


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, "198.51.100.1", "192.0.2.1"),
        (1, "", "192.0.2.1"),
        (1, "6.6.6.6, 198.51.100.1", "198.51.100.1"),
        (2, "6.6.6.6, 198.51.100.1, 10.0.0.1", "198.51.100.1"),
        (2, "198.51.100.1", "192.0.2.1"),
    ],
)
def test_an_address_cannot_be_made_up(settings: Any, proxies: int, forwarded: str, address: str) -> None:
    settings.PROXIES = proxies
    request = HttpRequest()
    request.META = {"REMOTE_ADDR": "192.0.2.1", "HTTP_X_FORWARDED_FOR": forwarded}
    assert address_of(request) == address


def test_a_network_of_ipv6_is_one_address(acme: TenantState, few_tries: None) -> None:
    for number in range(7):
        take_from(f"2001:db8::{number}", str(number))
    with pytest.raises(Problem):
        take_from("2001:db8::ffff:1", "another")
    take_from("2001:db8:0:1::1", "another")


def take_from(address: str, account: str) -> None:
    token = client_address.set(address)
    try:
        Tries(None, account).take()
    finally:
        client_address.reset(token)
