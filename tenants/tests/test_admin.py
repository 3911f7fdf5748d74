"""The staff console: who gets in, and what they may do."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import Group

from chatplatform import tenancy
from tenants.admin.people import PERMISSIONS
from tenants.models import User
from tenants.selectors import TenantState
from tenants.tests.console import PASSWORD, Console, page, person


@pytest.fixture
def root(acme: TenantState) -> Console:
    """A superuser."""
    return Console(person("root", superuser=True))


def test_a_password_opens_the_console_and_signing_out_closes_it(acme: TenantState) -> None:
    person("root", superuser=True)
    console = Console()
    assert console.post("login/", username="root", password="wrong").status_code == 200
    assert console.get("").status_code == 302
    assert console.post("login/", username="root", password=PASSWORD).status_code == 302
    assert "Staff console" in console.text("")
    console.post("logout/")
    assert console.get("").status_code == 302


def test_a_customer_account_is_sent_to_the_sign_in(acme: TenantState) -> None:
    console = Console(person("visitor", staff=False))
    answer = console.get("tenants/tenant/")
    assert answer.status_code == 302
    assert "/admin/login/" in answer.headers["Location"]


@pytest.mark.parametrize(
    "name", ["", "configuration/", "configuration/edit/", "suspend/", "domains/", "birth/"]
)
def test_staff_without_permission_is_refused_every_page_of_a_tenant(acme: TenantState, name: str) -> None:
    answer = Console(person("newcomer")).get(page(acme, name) if name else page(acme, "change/"))
    assert answer.status_code == 403
    assert "Acme" not in answer.content.decode()


@pytest.mark.parametrize("host", ["acme.localhost", "127.0.0.1", "unknown.example"])
def test_only_the_platforms_host_has_a_console(acme: TenantState, host: str) -> None:
    person("root", superuser=True)
    elsewhere = Console(host=host)
    assert elsewhere.get("login/").status_code == 404
    assert "unsafe" not in elsewhere.get("login/").headers.get("Content-Security-Policy", "")


def test_the_console_allows_the_theme_what_it_needs_and_no_inline_script(root: Console) -> None:
    policy = root.get("").headers["Content-Security-Policy"]
    scripts = next(part for part in policy.split("; ") if part.startswith("script-src"))
    assert scripts == "script-src 'self' 'unsafe-eval'"
    assert "http" not in policy


@pytest.mark.parametrize("path", ["", "tenants/tenant/", "tenants/apikey/", "tenants/user/", "auth/group/"])
def test_no_page_has_a_script_of_its_own_or_loads_from_elsewhere(root: Console, path: str) -> None:
    html = root.text(path)
    assert not re.search(r"<script(?![^>]*\ssrc=)", html)
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//(?!acme|globex)""", html)


def test_only_superusers_hand_out_power(acme: TenantState) -> None:
    boss = person("boss", superuser=True)
    clerk = person("clerk", "tenants.view_user", "tenants.change_user", "tenants.add_user")
    console = Console(clerk)
    data = {"username": "clerk", "is_active": "on", "is_staff": "on", "is_superuser": "on"}
    console.post(f"tenants/user/{clerk.pk}/change/", **data)
    assert console.get(f"tenants/user/{boss.pk}/password/").status_code == 403
    with tenancy.in_platform():
        clerk.refresh_from_db()
    assert not clerk.is_superuser


def test_staff_can_be_added_and_can_then_sign_in(root: Console) -> None:
    typed = {"username": "grace", "password1": PASSWORD, "password2": PASSWORD, "usable_password": "true"}
    assert root.post("tenants/user/add/", **typed).status_code == 302
    with tenancy.in_platform():
        grace = User.objects.get(username="grace")
    assert not grace.is_staff
    root.post(f"tenants/user/{grace.pk}/change/", username="grace", is_active="on", is_staff="on")
    assert Console().post("login/", username="grace", password=PASSWORD).status_code == 302


def test_one_can_change_ones_own_password(root: Console) -> None:
    typed = {
        "old_password": PASSWORD,
        "new_password1": "battery-staple-7",
        "new_password2": "battery-staple-7",
    }
    assert root.post("password_change/", **typed).status_code == 302
    assert Console().post("login/", username="root", password="battery-staple-7").status_code == 302


def test_a_group_offers_every_permission_that_the_console_asks_for(root: Console) -> None:
    html = root.text("auth/group/add/")
    assert html.count('name="permissions"') == len(PERMISSIONS)
    chosen = re.search(r'value="(\d+)"[^>]*id="id_permissions_0"', html)
    assert chosen
    root.post("auth/group/add/", name="Support", permissions=chosen[1])
    with tenancy.in_platform():
        permissions = list(Group.objects.get(name="Support").permissions.values_list("codename", flat=True))
    assert permissions == ["view_tenant"]
