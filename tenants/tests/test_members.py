"""Members: invited, joined, changed, shut out; and the links that they get by mail."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail, signing
from django.core.exceptions import ValidationError
from django.utils import timezone

from chatplatform import jobs, tenancy
from chatplatform.api.problem import Problem
from chatplatform.testing import cast
from tenants import tasks
from tenants.models import MemberSession, Membership, User
from tenants.selectors import TenantState
from tenants.services import lifecycle, member_links, member_mails, member_sessions, members, provisioning
from tenants.services.member_links import Link
from tenants.tests.people import PASSWORD, Desk, member, roles
from tenants.vocabulary import MemberRole, MemberState

NEW = "battery-staple-7"
LINK = re.compile(r"http://acme\.localhost:\d+/console/(join|reset)\?token=(\S+)")


def fresh(membership: Membership) -> Membership:
    with tenancy.in_platform():
        return Membership.objects.select_related("user", "tenant").get(pk=membership.pk)


def token(membership: Membership, kind: Link = Link.JOIN) -> str:
    return member_links.make(kind, fresh(membership))


def sent(kind: Link, membership: Membership) -> str:
    """The token in the mail that a worker sends."""
    mail.outbox.clear()
    assert member_mails.send_link(kind, membership.pk)
    [message] = mail.outbox
    assert message.to == [membership.email]
    found = LINK.search(str(message.body))
    assert found and found[1] == kind
    return found[2]


# --- Invitations ---------------------------------------------------------------------------------------------------
def test_who_is_invited_joins_by_the_link_and_signs_in(acme: TenantState) -> None:
    desk = Desk(acme, member(acme))
    assert (
        desk.post("members/invite", email=" Ada@Example.com ", role="analyst").headers["Location"]
        == "/console/members?done=invited"
    )
    with tenancy.in_platform():
        ada = Membership.objects.get(email="ada@example.com")
    assert (ada.state, ada.invited_by) == (MemberState.INVITED, "owner@example.com")
    link = f"join?token={sent(Link.JOIN, ada)}"
    new = Desk(acme)
    assert "ada@example.com" in new.text(link)
    assert new.post(link, password=NEW, again="other").status_code == 200
    assert new.post(link, password=NEW, again=NEW).status_code == 302
    assert fresh(ada).state is MemberState.JOINED
    assert new.sign_in("ADA@example.com", NEW).status_code == 302
    assert new.is_in()


def test_an_invitation_is_enqueued_without_a_secret(
    acme: TenantState, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    enqueued: list[tuple[str, ...]] = []
    monkeypatch.setattr(jobs, "enqueue", lambda task, *args, **_: enqueued.append((task, *args)))
    with django_capture_on_commit_callbacks(execute=True):
        ada = member(acme, email="ada@example.com", joined=False)
    assert enqueued == [("tenants.send_member_link", "join", str(ada.pk))]
    mail.outbox.clear()
    tasks.send_member_link(*enqueued[0][1:])
    tasks.send_member_link("reset", "")  # of somebody who is no member
    assert len(mail.outbox) == 1


@pytest.mark.parametrize("kind", Link)
def test_a_link_is_good_once(acme: TenantState, kind: Link) -> None:
    ada = member(acme, email="ada@example.com", joined=kind is Link.RESET)
    shown = token(ada, kind)
    members.follow_link(kind, acme.ref, shown, NEW)
    with pytest.raises(Problem):
        members.follow_link(kind, acme.ref, shown, PASSWORD)
    answer = Desk(acme).get(f"{kind}?token={shown}")
    assert answer.status_code == 404 and "not good any more" in answer.content.decode()


@pytest.mark.parametrize("kind", Link)
def test_a_link_is_good_for_a_while(acme: TenantState, kind: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = member(acme, email="ada@example.com", joined=kind is Link.RESET)
    shown = token(ada, kind)
    lifetime = member_links.LIFETIMES[kind].total_seconds()
    now = signing.time.time()  # type: ignore[attr-defined]
    monkeypatch.setattr(signing.time, "time", lambda: now + lifetime - 5)  # type: ignore[attr-defined]
    assert members.of_link(kind, acme.ref, shown)
    monkeypatch.setattr(signing.time, "time", lambda: now + lifetime + 5)  # type: ignore[attr-defined]
    with pytest.raises(Problem):
        members.of_link(kind, acme.ref, shown)


def test_a_link_is_of_one_tenant_and_one_kind(acme: TenantState, globex: TenantState) -> None:
    ada = member(acme, email="ada@example.com", joined=False)
    shown = token(ada)
    for kind, tenant in ((Link.JOIN, globex), (Link.RESET, acme)):
        with pytest.raises(Problem):
            members.of_link(kind, tenant.ref, shown)
    for broken in ("", "x", shown[:-1], shown + "x", signing.dumps(["x", "y"])):
        with pytest.raises(Problem):
            members.of_link(Link.JOIN, acme.ref, broken)


def test_another_invitation_makes_the_first_void(acme: TenantState) -> None:
    ada = member(acme, email="ada@example.com", joined=False)
    first = token(ada)
    members.invite_again(fresh(ada))
    with pytest.raises(Problem):
        members.of_link(Link.JOIN, acme.ref, first)
    assert members.of_link(Link.JOIN, acme.ref, token(ada)).pk == ada.pk


def test_who_is_shut_out_cannot_join(acme: TenantState) -> None:
    ada = member(acme, email="ada@example.com", joined=False)
    shown = token(ada)
    members.disable(ada)
    with pytest.raises(Problem):
        members.follow_link(Link.JOIN, acme.ref, shown, NEW)
    assert not member_mails.send_link(Link.JOIN, ada.pk)


@pytest.mark.parametrize("password", ["short1", "password123", "ada@example.com"])
def test_a_bad_password_is_refused_and_the_link_stays_good(acme: TenantState, password: str) -> None:
    shown = token(member(acme, email="ada@example.com", joined=False))
    with pytest.raises(ValidationError):
        members.follow_link(Link.JOIN, acme.ref, shown, password)
    assert members.follow_link(Link.JOIN, acme.ref, shown, NEW)


def test_of_many_who_follow_a_link_at_once_one_does(committed: None) -> None:
    acme = cast.state("acme")
    ada = member(acme, email="ada@example.com", joined=False)
    shown = token(ada)

    def follow(number: int) -> bool:
        try:
            members.follow_link(Link.JOIN, acme.ref, shown, f"{NEW}-{number}")
        except Problem:
            return False
        finally:
            jobs.close_connections()
        return True

    try:
        with ThreadPoolExecutor(4) as pool:
            assert sum(pool.map(follow, range(4))) == 1
    finally:
        with tenancy.in_platform():
            User.objects.filter(membership=ada).delete()


# --- Another password ----------------------------------------------------------------------------------------------
def test_who_forgot_the_password_gets_a_link_and_is_signed_out_everywhere(acme: TenantState) -> None:
    ada = member(acme, email="ada@example.com")
    old = Desk(acme, ada)
    assert old.is_in()
    assert Desk(acme).post("forgot", email="ada@example.com").status_code == 302
    link = f"reset?token={sent(Link.RESET, ada)}"
    assert Desk(acme).post(link, password=NEW, again=NEW).status_code == 302
    assert not old.is_in()
    assert Desk(acme).sign_in("ada@example.com", PASSWORD).status_code == 403
    assert Desk(acme).sign_in("ada@example.com", NEW).status_code == 302


def test_asking_does_not_tell_who_is_a_member(acme: TenantState, globex: TenantState) -> None:
    member(acme, email="ada@example.com")
    answers = [
        Desk(tenant).post("forgot", email=email)
        for tenant, email in (
            (acme, "ada@example.com"),
            (acme, "no@example.com"),
            (globex, "ada@example.com"),
        )
    ]
    assert {(answer.status_code, answer.headers["Location"]) for answer in answers} == {
        (302, "/console/sign-in?done=asked")
    }


def test_ones_own_password_is_changed_and_other_browsers_are_signed_out(acme: TenantState) -> None:
    ada = member(acme, email="ada@example.com")
    here, elsewhere = Desk(acme, ada), Desk(acme, ada)
    assert "not your password" in here.post("account", old="x", password=NEW, again=NEW).content.decode()
    assert here.post("account", old=PASSWORD, password=NEW, again=NEW).status_code == 302
    assert here.is_in() and not elsewhere.is_in()


# --- Roles and states ----------------------------------------------------------------------------------------------
def test_an_address_is_a_member_once_per_tenant(acme: TenantState, globex: TenantState) -> None:
    one = member(acme, email="ada@example.com")
    with pytest.raises(Problem):
        members.invite(acme.ref, "ADA@example.com", MemberRole.VIEWER, by="")
    other = member(globex, email="ada@example.com", joined=False)
    members.follow_link(Link.JOIN, globex.ref, member_links.make(Link.JOIN, fresh(other)), NEW)
    assert one.user_id != other.user_id
    assert Desk(acme).sign_in("ada@example.com", NEW).status_code == 403


@pytest.mark.parametrize("email", ["", "ada", "ada@", "a@b\nBcc: c@d.com", "a b@example.com"])
def test_what_is_no_address_is_refused(acme: TenantState, email: str) -> None:
    with pytest.raises(Problem):
        members.invite(acme.ref, email, MemberRole.VIEWER, by="")


def test_another_role_is_in_force_at_once(acme: TenantState) -> None:
    ada = member(acme, MemberRole.ADMIN, "ada@example.com")
    hers = Desk(acme, ada)
    assert hers.get("members").status_code == 200
    assert Desk(acme, member(acme)).post(f"members/{ada.pk}", role="viewer").status_code == 302
    assert hers.get("members").status_code == 403


def test_who_is_shut_out_is_out_at_once_and_can_be_let_in_again(acme: TenantState) -> None:
    ada = member(acme, MemberRole.ADMIN, "ada@example.com")
    hers, owners = Desk(acme, ada), Desk(acme, member(acme))
    assert hers.is_in()
    owners.post(f"members/{ada.pk}/disable")
    assert not hers.is_in()
    assert Desk(acme).sign_in("ada@example.com").status_code == 403
    owners.post(f"members/{ada.pk}/enable")
    assert not hers.is_in()  # the session ended
    assert Desk(acme).sign_in("ada@example.com").status_code == 302


@pytest.mark.parametrize("change", [members.disable, lambda one: members.change_role(one, "admin")])
def test_the_last_owner_stays(acme: TenantState, change: Any) -> None:
    owner = member(acme)
    member(acme, email="invited@example.com", joined=False)  # an owner who has not come yet is none
    with pytest.raises(Problem):
        change(owner)
    change_of_other = member(acme, email="second@example.com")
    change(owner)
    assert roles(acme)[change_of_other.email] == MemberRole.OWNER


def test_the_accounts_of_an_erased_tenant_are_gone(committed: None) -> None:
    tenant, _, _ = provisioning.request_tenant("Gone", "gone-tomorrow")
    ada = members.invite(tenant.ref, "ada@example.com", MemberRole.OWNER, by="")
    member_sessions.start(ada, agent="")
    lifecycle.erase("gone-tomorrow")
    with tenancy.in_platform():
        assert not User.objects.filter(pk=ada.user_id).exists()
        assert not MemberSession.objects.filter(membership_id=ada.pk).exists()


def test_old_sessions_are_forgotten(acme: TenantState) -> None:
    ada = member(acme)
    for _ in range(3):
        member_sessions.start(ada, agent="")
    with tenancy.in_platform():
        kept, idle, old = MemberSession.objects.filter(membership=ada)
        MemberSession.objects.filter(pk=idle.pk).update(
            seen_at=timezone.now() - member_sessions.IDLE - timedelta(minutes=1)
        )
        MemberSession.objects.filter(pk=old.pk).update(
            created_at=timezone.now() - member_sessions.LONGEST - timedelta(minutes=1)
        )
        tasks.expire_sign_ins()
        assert [one.pk for one in MemberSession.objects.filter(membership=ada)] == [kept.pk]
