"""What each role may do: every row of the table, allowed and denied; and that the console knows no other way."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from django.urls import get_resolver, reverse

from chatplatform.api.problem import Code, Problem
from tenants.auth.members import Member
from tenants.console import frame
from tenants.selectors import TenantState
from tenants.services import access
from tenants.tests.people import Desk, member, roles
from tenants.vocabulary import Action, MemberRole

# As docs/console.md has it: owner, admin, analyst, support agent, viewer.
TABLE = """
    view_usage          yes yes yes -   yes
    view_invoices       yes yes yes -   -
    read_conversations  yes yes yes yes -
    view_members        yes yes -   -   -
    manage_members      yes yes -   -   -
    manage_owners       yes -   -   -   -
    manage_sign_in      yes -   -   -   -
    view_configuration  yes yes yes -   -
    edit_configuration  yes yes -   -   -
    manage_keys         yes yes -   -   -
"""
ROWS = [
    (role, Action(line.split()[0]), said == "yes")
    for line in TABLE.strip().splitlines()
    for role, said in zip(MemberRole, line.split()[1:], strict=True)
]
ID = re.compile(r"<uuid:\w+>")
WITH = "with/<uuid:provider_id>"
WITHOUT_SESSION = {"sign-in", "sign-out", "forgot", "join", "reset", WITH, f"{WITH}/answer"}
HALF_IN = {"second-factor", "second-factor/app", "second-factor/passkey", "account/second-factors"}


def signed_in(tenant: TenantState, role: MemberRole) -> Member:
    return Member(tenant, uuid4(), uuid4(), "who@example.com", role)


def console_pages() -> Iterator[tuple[str, Any]]:
    """All addresses below /console/, and what their views say that they need (None: nothing)."""
    for included in get_resolver(settings.ROOT_URLCONF).url_patterns:
        if str(included.pattern) == "console/":
            for pattern in included.url_patterns:  # type: ignore[union-attr]
                yield str(pattern.pattern), getattr(pattern.callback, "console_needs", None)


# --- The table -----------------------------------------------------------------------------------------------------
def test_the_table_has_every_action_and_every_role() -> None:
    assert {action for _, action, _ in ROWS} == set(Action)
    assert len(ROWS) == len(Action) * len(MemberRole)


@pytest.mark.parametrize(("role", "action", "allowed"), ROWS)
def test_a_row(acme: TenantState, role: MemberRole, action: Action, allowed: bool) -> None:
    if allowed:
        access.access_action(signed_in(acme, role), action)
        return
    with pytest.raises(Problem) as refused:
        access.access_action(signed_in(acme, role), action)
    assert refused.value.code is Code.NOT_ALLOWED


@pytest.mark.parametrize("role", MemberRole)
def test_pages_open_to_whom_the_table_says(acme: TenantState, role: MemberRole) -> None:
    desk, other = Desk(acme, member(acme, role)), member(acme, MemberRole.VIEWER, "other@example.com")
    allowed = {action for one, action, may in ROWS if one is role and may}
    for name, needs in console_pages():
        if needs == frame.ANYBODY:
            continue
        path = ID.sub(str(other.pk), name)
        answer = desk.get(path)
        if answer.status_code == 405:
            answer = desk.post(path)
        refused = needs not in (frame.SIGNED_IN, frame.HALF_IN) and needs not in allowed
        assert (answer.status_code == 403) == refused, (name, answer.status_code)


@pytest.mark.parametrize("role", MemberRole)
def test_the_navigation_leads_to_open_doors_only(acme: TenantState, role: MemberRole) -> None:
    html = Desk(acme, member(acme, role)).text("")
    allowed = {action for one, action, may in ROWS if one is role and may}
    for _, _, name, action in frame.NAVIGATION:
        assert (f'href="{reverse(name)}"' in html) == (action is None or action in allowed)


def test_the_documentation_has_the_same_table() -> None:
    page = (Path(settings.BASE_DIR) / "docs" / "console.md").read_text()
    for action in Action:
        row = ["yes" if may else "–" for _, one, may in ROWS if one is action]
        assert f"| {action.label} | {' | '.join(row)} |" in page


# --- No other way --------------------------------------------------------------------------------------------------
def test_every_page_says_what_it_needs() -> None:
    found = dict(console_pages())
    assert found and None not in found.values()
    assert {name for name, needs in found.items() if needs == frame.ANYBODY} == WITHOUT_SESSION
    assert {name for name, needs in found.items() if needs == frame.HALF_IN} == HALF_IN


def test_without_a_session_every_page_leads_to_the_sign_in(acme: TenantState) -> None:
    desk = Desk(acme)
    for name, needs in console_pages():
        if needs == frame.ANYBODY:
            continue
        path = ID.sub(str(uuid4()), name)
        answer = desk.get(path)
        if answer.status_code == 405:
            answer = desk.post(path)
        assert answer.headers["Location"].startswith("/console/sign-in"), name


def reaches(source: str) -> list[str]:
    """Where a module goes to the tables by itself, instead of asking an access function or a service."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in {"objects", "_default_manager", "raw", "cursor"}:
            found.append(node.attr)
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        found += [
            name
            for name in modules
            if ".models" in name
            or name.startswith(("django.db", "chatplatform.tenancy"))
            or name in {"chatplatform.tenancy", "django.apps", "django.apps.apps"}
            or name.startswith("django.shortcuts.get_")
        ]
    return found


@pytest.mark.parametrize("folder", ["tenants/console", "billing/console"])
def test_no_view_of_the_console_gets_at_objects_by_itself(folder: str) -> None:
    modules = list((Path(settings.BASE_DIR) / folder).glob("*.py"))
    assert len(modules) > 2
    assert {module.name: found for module in modules if (found := reaches(module.read_text()))} == {}


@pytest.mark.parametrize(
    "hole",
    [
        "from tenants.models import Membership",
        "import billing.models",
        "from django.db import connection",
        "from django.apps import apps",
        "from django.shortcuts import get_object_or_404",
        "from chatplatform import tenancy",
        "type(membership).objects.all()",
        "membership._default_manager.first()",
    ],
)
def test_a_planted_hole_is_found(hole: str) -> None:
    assert reaches(hole)


def test_the_linter_is_told_of_both_consoles() -> None:
    lines = (Path(settings.BASE_DIR) / "pyproject.toml").read_text()
    assert 'source_modules = ["tenants.console", "billing.console"]' in lines


# --- Members -------------------------------------------------------------------------------------------------------
def test_owners_are_changed_by_owners_only(acme: TenantState) -> None:
    owner, admin = member(acme), member(acme, MemberRole.ADMIN)
    viewer = member(acme, MemberRole.VIEWER)
    desk = Desk(acme, admin)
    assert desk.get(f"members/{owner.pk}").status_code == 403
    assert desk.post(f"members/{owner.pk}/disable").status_code == 403
    assert desk.post(f"members/{viewer.pk}", role="owner").status_code == 200  # refused by the form
    invitation: dict[str, Any] = {"email": "new@example.com", "role": "owner"}
    assert desk.post("members/invite", **invitation).status_code == 200
    assert roles(acme) == {
        "owner@example.com": "owner",
        "admin@example.com": "admin",
        "viewer@example.com": "viewer",
    }


def test_what_belongs_to_another_tenant_is_not_found(acme: TenantState, globex: TenantState) -> None:
    desk, theirs = Desk(acme, member(acme)), member(globex)
    for path in ("", "/disable", "/enable", "/invite-again"):
        assert desk.post(f"members/{theirs.pk}{path}", role="viewer").status_code == 404


def test_nobody_changes_their_own_membership(acme: TenantState) -> None:
    me = member(acme)
    assert Desk(acme, me).post(f"members/{me.pk}", role="viewer").status_code == 403
