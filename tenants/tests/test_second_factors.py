"""Second factors of members: apps, passkeys, recovery codes, and what a session may do without them."""

from __future__ import annotations

import json
import re
import time
from datetime import timedelta
from html import unescape
from typing import Any

import pyotp
import pytest
from django.utils import timezone

from chatplatform import tenancy
from chatplatform.testing.audit import written
from chatplatform.testing.passkeys import Passkey
from tenants.models import MemberSession, Membership, SecondFactor, SignInTries, Tenant
from tenants.selectors import TenantState
from tenants.services import members
from tenants.tests.people import Desk, member
from tenants.vocabulary import FactorKind, MemberRole

OPTIONS = re.compile(r'<script id="passkey-options" type="application/json">(.*?)</script>')
SEALED = re.compile(r'name="secret" value="([^"]+)"')
SHOWN = re.compile(r"<code>([A-Z2-7 ]{39})</code>")
CODE = re.compile(r"<code>([2-9a-z]{5}-[2-9a-z]{5})</code>")
DOOR = "/console/second-factor"
OWN = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
ACME = "http://acme.localhost"


def options(html: str) -> dict[str, Any]:
    found = OPTIONS.search(html)
    assert found
    return dict(json.loads(unescape(found[1])))


def add_app(desk: Desk) -> tuple[pyotp.TOTP, list[str]]:
    """The app, and the recovery codes that came with it."""
    html = desk.text("second-factor/app")
    shown, sealed = SHOWN.search(html), SEALED.search(html)
    assert shown and sealed
    app = pyotp.TOTP(shown[1].replace(" ", ""))
    answer = desk.post("second-factor/app", name="Phone", secret=sealed[1], code=app.now())
    return app, CODE.findall(answer.content.decode())


def add_passkey(desk: Desk, **how: Any) -> Passkey:
    passkey = Passkey(f"http://{desk.tenant.ref.slug}.localhost", **how)
    answer = passkey.made(options(desk.text("second-factor/passkey")))
    assert desk.post("second-factor/passkey", name="Key", answer=answer).status_code in (200, 302)
    return passkey


def unused(app: pyotp.TOTP) -> str:
    """A code of the app that it has not shown before."""
    return app.at(time.time() + 30)


def half_in(tenant: TenantState, who: Membership) -> Desk:
    """A browser after the right password."""
    desk = Desk(tenant)
    assert desk.sign_in(who.email).status_code == 302
    return desk


def actions(kind: str) -> list[str]:
    return [action for (action,) in written("action") if action.startswith(kind)]


def need_second_factor(tenant: TenantState) -> None:
    with tenancy.in_platform():
        Tenant.objects.filter(pk=tenant.ref.id).update(needs_second_factor=True)


# --- Apps ----------------------------------------------------------------------------------------------------------
def test_who_has_an_app_needs_its_code_too(acme: TenantState) -> None:
    ada = member(acme)
    app, _ = add_app(Desk(acme, ada))
    desk = half_in(acme, ada)
    assert desk.get("usage").headers["Location"] == f"{DOOR}?next=%2Fconsole%2Fusage"
    assert desk.post("second-factor", code="000000").status_code == 403
    assert not desk.is_in()
    reached = desk.client.post(f"{DOOR}?next=/console/usage", {"code": unused(app)})
    assert reached.headers["Location"] == "/console/usage"
    assert desk.is_in()
    assert actions("member.pro") == ["member.proof_failed", "member.proved"]


def test_a_code_is_good_once(acme: TenantState) -> None:
    ada = member(acme)
    app, _ = add_app(Desk(acme, ada))
    first, second, code = half_in(acme, ada), half_in(acme, ada), unused(app)
    assert first.post("second-factor", code=code).status_code == 302
    assert second.post("second-factor", code=code).status_code == 403
    assert second.post("second-factor", code=app.now()).status_code == 403  # older than one that was used


@pytest.mark.parametrize("off", [-90, 90])
def test_a_code_of_another_time_is_none(acme: TenantState, off: int) -> None:
    ada = member(acme)
    app, _ = add_app(Desk(acme, ada))
    code = app.at(time.time() + off)
    assert half_in(acme, ada).post("second-factor", code=code).status_code == 403


def test_an_app_is_taken_in_with_the_code_of_the_secret_that_was_shown(acme: TenantState) -> None:
    desk, other = Desk(acme, member(acme)), Desk(acme, member(acme, MemberRole.ADMIN))
    theirs = SEALED.search(other.text("second-factor/app"))
    assert theirs
    for secret, code in ((theirs[1], "000000"), (OWN, pyotp.TOTP(OWN).now())):
        assert desk.post("second-factor/app", name="x", secret=secret, code=code).status_code == 403
    with tenancy.in_platform():
        assert not SecondFactor.objects.exists()


def test_secrets_are_sealed_and_codes_are_hashed(acme: TenantState) -> None:
    ada = member(acme)
    _, codes = add_app(Desk(acme, ada))
    assert len(set(codes)) == 10
    with tenancy.in_platform():
        stored = SecondFactor.objects.filter(kind=FactorKind.CODE).values_list("secret", flat=True)
        assert not {code.replace("-", "") for code in codes} & set(stored)


# --- Recovery codes ------------------------------------------------------------------------------------------------
def test_a_recovery_code_lets_in_once(acme: TenantState) -> None:
    ada = member(acme)
    _, codes = add_app(Desk(acme, ada))
    assert (
        half_in(acme, ada).post("second-factor", code=codes[3].upper().replace("-", " ")).status_code == 302
    )
    assert half_in(acme, ada).post("second-factor", code=codes[3]).status_code == 403
    assert half_in(acme, ada).post("second-factor", code=codes[4]).status_code == 302


def test_other_recovery_codes_make_those_before_void(acme: TenantState) -> None:
    ada = member(acme)
    desk = Desk(acme, ada)
    _, before = add_app(desk)
    now = CODE.findall(desk.post("account/second-factors", codes="new").content.decode())
    assert len(now) == 10 and not set(now) & set(before)
    assert half_in(acme, ada).post("second-factor", code=before[0]).status_code == 403
    assert half_in(acme, ada).post("second-factor", code=now[0]).status_code == 302


# --- Passkeys ------------------------------------------------------------------------------------------------------
def test_a_passkey_lets_in(acme: TenantState) -> None:
    ada = member(acme)
    passkey = add_passkey(Desk(acme, ada))
    desk = half_in(acme, ada)
    answer = passkey.signed(options(desk.text("second-factor")))
    assert desk.post("second-factor", answer=answer).status_code == 302
    assert desk.is_in()


@pytest.mark.parametrize(
    "wrong", ["origin", "key", "challenge", "again", "nonsense", "a member's of another"]
)
def test_what_a_passkey_did_not_sign_for_this_page_is_refused(acme: TenantState, wrong: str) -> None:
    ada = member(acme)
    passkey = add_passkey(Desk(acme, ada))
    if wrong == "a member's of another":
        passkey = add_passkey(Desk(acme, member(acme, MemberRole.ADMIN)))
    desk = half_in(acme, ada)
    asked = options(desk.text("second-factor"))
    if wrong == "origin":
        passkey.origin = "https://evil.example"
    if wrong == "key":
        passkey.secret = Passkey(ACME).secret
    answer = passkey.signed(asked)
    if wrong == "challenge":
        desk.text("second-factor")  # asks for another signature
    if wrong == "again":
        assert desk.post("second-factor", answer=answer).status_code == 302
        desk = half_in(acme, ada)
    assert desk.post("second-factor", answer="{}" if wrong == "nonsense" else answer).status_code == 403
    assert not desk.is_in()


@pytest.mark.parametrize(("counter", "status"), [(2, 302), (1, 403), (0, 403)])
def test_a_copy_of_a_passkey_is_found_out_by_its_count(acme: TenantState, counter: int, status: int) -> None:
    ada = member(acme)
    passkey = add_passkey(Desk(acme, ada))
    passkey.counter = counter
    desk = half_in(acme, ada)
    answer = passkey.signed(options(desk.text("second-factor")))
    assert desk.post("second-factor", answer=answer).status_code == status


def test_a_passkey_that_does_not_count_is_good_again_and_again(acme: TenantState) -> None:
    ada = member(acme)
    passkey = add_passkey(Desk(acme, ada), counter=None)
    for _ in range(2):
        desk = half_in(acme, ada)
        assert (
            desk.post("second-factor", answer=passkey.signed(options(desk.text("second-factor")))).status_code
            == 302
        )


def test_a_passkey_of_one_tenant_is_nothing_at_another(acme: TenantState, globex: TenantState) -> None:
    passkey = add_passkey(Desk(acme, member(acme)))
    theirs = member(globex)
    add_passkey(Desk(globex, theirs))
    desk = half_in(globex, theirs)
    asked = options(desk.text("second-factor"))
    for origin in (ACME, "http://globex.localhost"):
        passkey.origin = origin
        assert desk.post("second-factor", answer=passkey.signed(asked)).status_code == 403


# --- Sessions ------------------------------------------------------------------------------------------------------
def test_a_session_that_waits_opens_nothing(acme: TenantState) -> None:
    ada = member(acme)
    add_app(Desk(acme, ada))
    desk = half_in(acme, ada)
    for path in ("", "usage", "members", "account"):
        assert desk.get(path).headers["Location"].startswith(DOOR)
    for path in ("second-factor/app", "second-factor/passkey", "account/second-factors"):
        assert desk.get(path).headers["Location"].startswith(DOOR), "who only knows the password adds nothing"


def test_a_session_waits_a_quarter_of_an_hour(acme: TenantState) -> None:
    ada = member(acme)
    app, _ = add_app(Desk(acme, ada))
    desk = half_in(acme, ada)
    with tenancy.in_platform():
        MemberSession.objects.update(created_at=timezone.now() - timedelta(minutes=16))
    assert desk.post("second-factor", code=unused(app)).headers["Location"] == "/console/sign-in"


def test_other_sessions_have_to_show_a_new_factor_too(acme: TenantState) -> None:
    ada = member(acme)
    here, elsewhere = Desk(acme, ada), Desk(acme, ada)
    app, _ = add_app(here)
    assert here.is_in() and not elsewhere.is_in()
    elsewhere.post("second-factor", code=unused(app))
    assert elsewhere.is_in()


def test_where_one_is_needed_who_has_none_adds_one_first(acme: TenantState) -> None:
    ada, desk = member(acme), Desk(acme, member(acme, MemberRole.ADMIN))
    need_second_factor(acme)
    assert not desk.is_in(), "in force with the next request"
    fresh = half_in(acme, ada)
    assert fresh.get("").headers["Location"].startswith(DOOR)
    assert fresh.get("second-factor").headers["Location"] == "/console/account/second-factors"
    add_app(fresh)
    assert fresh.is_in()
    with tenancy.in_platform():
        app = SecondFactor.objects.get(kind=FactorKind.APP)
    assert "last second factor" in fresh.post("account/second-factors", remove=app.pk).content.decode()
    assert fresh.is_in()


def test_changes_need_a_recent_proof(acme: TenantState) -> None:
    ada = member(acme)
    desk = Desk(acme, ada)

    def hour_later() -> None:
        with tenancy.in_platform():
            for session in MemberSession.objects.all():
                session.created_at -= timedelta(hours=1)
                session.proved_at = session.proved_at and session.proved_at - timedelta(hours=1)
                session.save()

    hour_later()
    assert desk.get("second-factor/app").headers["Location"].startswith("/console/sign-in?next=")
    desk = half_in(acme, ada)
    app, _ = add_app(desk)
    hour_later()
    assert desk.is_in()
    assert desk.get("account/second-factors").headers["Location"].startswith(DOOR)
    assert desk.post("account/second-factors", codes="new").headers["Location"] == DOOR
    desk.post("second-factor", code=unused(app))
    assert "Phone" in desk.text("account/second-factors")


def test_with_the_last_factor_go_the_recovery_codes(acme: TenantState) -> None:
    ada = member(acme)
    desk = Desk(acme, ada)
    add_app(desk)
    add_passkey(desk)
    for left in (11, 0):
        with tenancy.in_platform():
            factor = SecondFactor.objects.exclude(kind=FactorKind.CODE).first()
        assert factor
        desk.post("account/second-factors", remove=factor.pk)
        with tenancy.in_platform():
            assert SecondFactor.objects.count() == left
    assert half_in(acme, ada).is_in()


def test_one_cannot_remove_what_is_somebody_elses(acme: TenantState) -> None:
    add_app(Desk(acme, member(acme)))
    with tenancy.in_platform():
        theirs = SecondFactor.objects.get(kind=FactorKind.APP)
    other = Desk(acme, member(acme, MemberRole.ADMIN))
    for name in (str(theirs.pk), "x"):
        assert "no such" in other.post("account/second-factors", remove=name).content.decode()


def test_an_owner_helps_who_has_lost_theirs(acme: TenantState) -> None:
    ada, owner = member(acme, MemberRole.ADMIN), Desk(acme, member(acme))
    lost = Desk(acme, ada)
    add_app(lost)
    owner.post(f"members/{ada.pk}/reset-factors")
    assert not lost.is_in()
    assert half_in(acme, ada).is_in()
    assert actions("member.factors") == ["member.factors_reset"]


# --- Tries ---------------------------------------------------------------------------------------------------------
def test_codes_are_not_tried_without_end(acme: TenantState, settings: Any) -> None:
    settings.SIGN_IN_TRIES_PER_ACCOUNT = 3
    ada = member(acme)
    app, _ = add_app(Desk(acme, ada))
    for _ in range(3):
        half_in(acme, ada).post("second-factor", code="000000")  # the right password does not forget them
    answer = half_in(acme, ada).post("second-factor", code=unused(app))
    assert answer.status_code == 403 and "Too many tries" in answer.content.decode()
    with tenancy.in_platform():
        SignInTries.objects.all().delete()
    assert half_in(acme, ada).post("second-factor", code=unused(app)).status_code == 302


def test_pages_are_kept_nowhere_and_have_the_strict_policy(acme: TenantState) -> None:
    desk = Desk(acme, member(acme))
    add_app(desk)
    for path in ("second-factor/app", "second-factor/passkey", "second-factor", "account/second-factors"):
        answer = desk.get(path)
        assert answer.headers["Cache-Control"] == "no-store"
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert b"style=" not in answer.content and b"<script>" not in answer.content


def test_with_the_accounts_of_a_tenant_go_their_second_factors(acme: TenantState) -> None:
    add_app(Desk(acme, member(acme)))
    members.forget_accounts(acme.ref)
    with tenancy.in_platform():
        assert not SecondFactor.objects.exists()
