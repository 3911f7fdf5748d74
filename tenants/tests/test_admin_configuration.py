"""The staff console: configuration versions and what they differ in."""

from __future__ import annotations

import re
from typing import Any

import pytest

from chatplatform import tenancy
from tenants.admin.presentation import GROUPS
from tenants.models import ConfigurationVersion
from tenants.models.configuration import FIELDS
from tenants.selectors import TenantState
from tenants.services import configuration
from tenants.tests.console import Console, page, person


@pytest.fixture
def root(acme: TenantState) -> Console:
    """A superuser."""
    return Console(person("root", superuser=True))


def as_posted(tenant: TenantState, **changes: str) -> dict[str, str]:
    """The configuration form as a browser sends it back, with some fields changed."""
    version = configuration.current(tenant.ref)
    posted = {"base": str(version.number)}
    for name in FIELDS:
        value = getattr(version, name)
        if isinstance(value, list):
            posted[name] = "\r\n".join(value)
        elif value is True:
            posted[name] = "on"
        elif value is not False:
            posted[name] = "" if value is None else str(value)
    return {**posted, **changes}


def test_every_field_has_a_place_on_the_page() -> None:
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(FIELDS)


def test_the_form_writes_a_new_version_with_the_changes_alone(root: Console, acme: TenantState) -> None:
    before = configuration.current(acme.ref)
    changes = {
        "temperature": "0.3",
        "blocked_topics": "politics\n\n medicine ",
        "monthly_cost_budget_usd": "12.5",
    }
    assert root.post(page(acme, "configuration/edit/"), **as_posted(acme, **changes)).status_code == 302
    after = configuration.current(acme.ref)
    assert (after.number, after.author, after.by_staff) == (before.number + 1, "root", True)
    changed = {name for name in FIELDS if getattr(before, name) != getattr(after, name)}
    assert changed == set(changes)
    assert after.blocked_topics == ["politics", "medicine"]


def test_the_form_unchanged_writes_nothing(root: Console, acme: TenantState) -> None:
    configuration.change(
        acme.ref,
        {"allowed_models": ["local"], "daily_cost_budget_usd": 5, "temperature": 0.25, "greeting": "Hi\nyou"},
        author="x",
        by_staff=True,
    )
    before = configuration.current(acme.ref).number
    root.post(page(acme, "configuration/edit/"), **as_posted(acme))
    assert configuration.current(acme.ref).number == before


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("temperature", "9", "less than or equal to 2"),
        ("escalation_email", "nobody", "valid email"),
        ("max_tokens_per_response", "0", "greater than or equal to 1"),
        ("requests_per_minute", "-1", "greater than or equal to 0"),
        ("requests_per_minute", str(2**70), "9223372036854775807"),
        ("blocked_topics", "x" * 301, "at most 300"),
        ("primary_model", "", "required"),
        ("greeting", "\0", "Null characters"),
    ],
)
def test_a_wrong_value_is_shown_at_its_field_and_writes_nothing(
    root: Console, acme: TenantState, field: str, value: str, said: str
) -> None:
    before = configuration.current(acme.ref).number
    answer = root.post(page(acme, "configuration/edit/"), **as_posted(acme, **{field: value}))
    assert said in str(answer.context["form"].errors[field])
    assert configuration.current(acme.ref).number == before


def test_two_people_change_different_fields_and_both_changes_stay(root: Console, acme: TenantState) -> None:
    mine = as_posted(acme, greeting="Mine")
    configuration.change(acme.ref, {"temperature": 1.5}, author="other", by_staff=True)
    root.post(page(acme, "configuration/edit/"), **mine)
    after = configuration.current(acme.ref)
    assert (after.greeting, after.temperature) == ("Mine", 1.5)


def test_the_page_shows_what_is_in_force_and_who_changed_what(root: Console, acme: TenantState) -> None:
    configuration.change(acme.ref, {"greeting": "<i>Ahoy</i>"}, author="grace", by_staff=True)
    html = root.text(page(acme, "configuration/"))
    assert "&lt;i&gt;Ahoy&lt;/i&gt;" in html
    assert re.search(r"grace\s*</div>\s*<div class=\"cp-small\">Greeting</div>", html)


def test_two_versions_are_compared_field_by_field(root: Console, acme: TenantState) -> None:
    first = configuration.current(acme.ref).number
    change: dict[str, Any] = {
        "system_prompt": "Be kind and brief.",
        "blocked_topics": ["politics", "medicine"],
    }
    configuration.change(acme.ref, change, author="x", by_staff=True)
    change = {"system_prompt": "Be kind and very brief.", "blocked_topics": ["politics"], "temperature": 0.5}
    configuration.change(acme.ref, change, author="x", by_staff=True)
    html = root.text(page(acme, "configuration/compare/"))
    assert "Be kind and <ins>very </ins>brief." in html
    assert re.search(r"<del class=\"cp-chip\"[^>]*>medicine</del>", html)
    assert re.search(r"<del>\s*.*model’s own.*?</del>.*?<ins>\s*.*?0\.5", html, re.S)
    assert "Primary model" not in html
    oldest = root.get(page(acme, "configuration/compare/"), **{"from": first, "to": first + 2})
    assert [row["label"] for row in oldest.context["rows"]] == [
        "System prompt",
        "Temperature",
        "Blocked topics",
    ]


@pytest.mark.parametrize("query", [{"from": "99"}, {"to": "x"}, {"to": "-1"}, {"to": "9" * 40}])
def test_a_version_that_is_not_there_is_not_found(
    root: Console, acme: TenantState, query: dict[str, str]
) -> None:
    assert root.get(page(acme, "configuration/compare/"), **query).status_code == 404


def test_versions_of_another_tenant_cannot_be_seen(
    root: Console, acme: TenantState, globex: TenantState
) -> None:
    configuration.change(globex.ref, {"greeting": "secret"}, author="x", by_staff=True)
    with tenancy.in_platform():
        number = ConfigurationVersion.objects.filter(tenant_id=acme.ref.id).latest("number").number
    assert root.get(page(acme, "configuration/"), version=number + 1).status_code == 404


def test_seeing_a_configuration_does_not_mean_changing_it(acme: TenantState) -> None:
    seer = Console(person("seer", "tenants.view_tenant", "tenants.view_configurationversion"))
    assert "Change…" not in seer.text(page(acme, "configuration/"))
    refused = seer.post(page(acme, "configuration/edit/"), **as_posted(acme, greeting="Mine"))
    assert refused.status_code == 403
    assert configuration.current(acme.ref).greeting != "Mine"
