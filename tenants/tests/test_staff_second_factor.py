"""Second factors of our own people: asked for before any page of the staff's console."""

from __future__ import annotations

import time
from typing import Any

import pyotp
import pytest
from django.test import Client

from chatplatform import tenancy
from chatplatform.api.problem import Problem
from chatplatform.testing.commands import result_of
from chatplatform.testing.passkeys import Passkey
from tenants.auth import staff_proof
from tenants.models import SecondFactor, User
from tenants.services import second_factors
from tenants.tests.console import PASSWORD, Console, person
from tenants.tests.test_second_factors import SEALED, SHOWN, options

pytestmark = pytest.mark.usefixtures("acme")
DOOR = "/admin/second-factor/"


def signed_in(name: str = "grace") -> Console:
    """A browser after the right password."""
    console = Console()
    assert console.post("login/?next=/admin/", username=name, password=PASSWORD).status_code == 302
    return console


def with_app() -> tuple[User, pyotp.TOTP]:
    user, secret = person("grace", superuser=True), second_factors.new_secret()
    app = pyotp.TOTP(secret)
    second_factors.add_app(second_factors.of_staff(user), "Phone", secret, app.now())
    return user, app


def test_who_has_one_needs_it_for_every_page() -> None:
    _, app = with_app()
    console = signed_in()
    for page in ("", "tenants/tenant/", "tenants/user/", "conversations/acme/", "spending/acme/", "jsi18n/"):
        assert console.get(page).headers["Location"].startswith(DOOR), page
    assert console.post("tenants/tenant/add/", name="x").headers["Location"] == DOOR
    for page in ("app", "passkey", "all"):
        assert console.get(f"second-factor/{page}").headers["Location"].startswith(f"{DOOR}?next=")
    assert console.post("second-factor/", code="000000").status_code == 403
    code = app.at(time.time() + 30)
    reached = console.post("second-factor/?next=/admin/tenants/user/", code=code)
    assert reached.headers["Location"] == "/admin/tenants/user/"
    assert "grace" in console.text("tenants/user/")
    assert signed_in().post("second-factor/", code=code).status_code == 403


@pytest.mark.parametrize("wanted", ["https://evil.example/", "//evil.example/", "/admin/../x", "/"])
def test_after_it_comes_a_page_of_the_console(wanted: str) -> None:
    _, app = with_app()
    console, code = signed_in(), app.at(time.time() + 30)
    reached = console.post(f"second-factor/?next={wanted}", code=code).headers["Location"]
    assert reached.startswith("/admin/")


def test_an_app_and_a_passkey_are_added_and_asked_for() -> None:
    person("grace", superuser=True)
    console = signed_in()
    html = console.text("second-factor/app")
    shown, sealed = SHOWN.search(html), SEALED.search(html)
    assert shown and sealed
    code = pyotp.TOTP(shown[1].replace(" ", "")).now()
    assert (
        "recovery codes"
        in console.post("second-factor/app", name="x", secret=sealed[1], code=code).content.decode()
    )
    passkey = Passkey("http://localhost")
    made = passkey.made(options(console.text("second-factor/passkey")))
    assert console.post("second-factor/passkey", name="Key", answer=made).status_code == 302
    assert "Key" in console.text("second-factor/all")
    again = signed_in()
    answer = passkey.signed(options(again.text("second-factor/")))
    assert again.post("second-factor/", answer=answer).headers["Location"] == "/admin/"
    assert again.get("").status_code == 200


def test_where_staff_need_one_who_has_none_adds_one_first(settings: Any) -> None:
    settings.STAFF_NEED_SECOND_FACTOR = True
    person("grace", superuser=True)
    console = signed_in()
    assert console.get("").headers["Location"] == f"{DOOR}?next=%2Fadmin%2F"
    assert console.get("second-factor/").headers["Location"] == f"{DOOR}all"
    passkey = Passkey("http://localhost")
    made = passkey.made(options(console.text("second-factor/passkey")))
    console.post("second-factor/passkey", name="Key", answer=made)
    assert console.get("").status_code == 200
    with tenancy.in_platform():
        only = SecondFactor.objects.exclude(kind="code").get()
    assert "last second factor" in console.post("second-factor/all", remove=only.pk).content.decode()


def test_another_sign_in_in_the_same_browser_needs_it_again() -> None:
    _, app = with_app()
    console = signed_in()
    console.post("second-factor/", code=app.at(time.time() + 30))
    assert console.get("").status_code == 200
    console.post("login/", username="grace", password=PASSWORD)
    assert console.get("").headers["Location"].startswith(DOOR)


def test_changes_need_a_recent_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    person("grace", superuser=True)
    console = signed_in()
    assert console.get("second-factor/all").status_code == 200
    monkeypatch.setattr(staff_proof, "RECENT", -1.0)
    assert console.get("second-factor/all").headers["Location"].startswith("/admin/login/?next=")
    assert console.get("").status_code == 302, "signed out"


def test_the_pages_are_for_staff_alone() -> None:
    for path in ("", "app", "passkey", "all"):
        assert "/admin/login/" in Console().get(f"second-factor/{path}").headers["Location"]
        answer = Client(headers={"host": "acme.localhost"}).get(f"{DOOR}{path}")
        assert answer.status_code == 404


def test_an_operator_helps_who_has_lost_theirs() -> None:
    with_app()
    assert result_of("reset_second_factor", "grace") == {"username": "grace"}
    assert signed_in().get("").status_code == 200


def test_staff_try_no_more_often_than_members(settings: Any) -> None:
    settings.SIGN_IN_TRIES_PER_ACCOUNT = 2
    user, app = with_app()
    holder = second_factors.of_staff(user)
    for code in ("000000", "000000", app.at(time.time() + 30)):
        with pytest.raises(Problem) as refused:
            second_factors.prove_by_code(holder, code)
    assert refused.value.code == "rate_limited"
