"""A tenant's configuration: numbered versions, ceilings, and in force everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from chatplatform import tenancy
from chatplatform.api.problem import Code, Problem
from chatplatform.testing import cast
from chatplatform.testing.clients import Caller
from tenants import control, selectors
from tenants.models import ConfigurationVersion
from tenants.models.configuration import FIELDS
from tenants.selectors import TenantState
from tenants.services import configuration

# CONTRACT §5, and the number of the version.
PUBLIC = set(
    """
    system_prompt greeting primary_model fallback_model allowed_models temperature max_tokens_per_response
    monthly_token_budget monthly_cost_budget_usd daily_cost_budget_usd conversation_cost_budget_usd
    user_monthly_cost_budget_usd requests_per_minute tokens_per_minute user_requests_per_minute allowed_tools
    blocked_topics escalation_email allow_anonymous widget_origins cache_enabled semantic_cache_threshold
    degrade_to_local
    """.split()
)
VALUES: dict[str, Any] = {
    "system_prompt": "Be brief, {tenant}.", "greeting": "Hi 👋", "primary_model": "local",
    "fallback_model": ["local", "sim-fast"], "allowed_models": ["local", "sim-fast"], "temperature": 0.5,
    "max_tokens_per_response": 100, "monthly_token_budget": 1000, "monthly_cost_budget_usd": "12.5",
    "daily_cost_budget_usd": "1", "conversation_cost_budget_usd": "0.000001", "user_monthly_cost_budget_usd": "0",
    "requests_per_minute": 60, "tokens_per_minute": 10_000, "user_requests_per_minute": 6,
    "allowed_tools": ["search"], "blocked_topics": ["politics"], "escalation_email": "help@acme.example",
    "allow_anonymous": False, "widget_origins": ["https://shop.example"], "cache_enabled": False,
    "semantic_cache_threshold": 0.5, "degrade_to_local": True,
}  # fmt: skip
WRONG: list[tuple[str, Any]] = [
    ("system_prompt", 5), ("greeting", None), ("greeting", "a\x00b"), ("primary_model", ""), ("primary_model", []),
    ("fallback_model", 5), ("fallback_model", [5]), ("fallback_model", [""]),
    ("fallback_model", "a\x00"), ("fallback_model", ["a\n"]), ("fallback_model", ["local"] * 11),
    ("primary_model", "a\n"),
    ("allowed_tools", ["x"] * 201), ("allowed_models", "local"),
    ("allowed_models", [None]), ("temperature", 2.1), ("temperature", "0.5"), ("temperature", True),
    ("max_tokens_per_response", 0), ("max_tokens_per_response", None), ("max_tokens_per_response", "5"),
    ("monthly_token_budget", -1), ("monthly_token_budget", 1.5), ("monthly_token_budget", 2**63),
    ("monthly_cost_budget_usd", -0.01), ("monthly_cost_budget_usd", "NaN"), ("monthly_cost_budget_usd", "Infinity"),
    ("monthly_cost_budget_usd", "1e100"), ("monthly_cost_budget_usd", "0.0000001"), ("daily_cost_budget_usd", True),
    ("daily_cost_budget_usd", {}), ("requests_per_minute", True), ("allowed_tools", "search"),
    ("blocked_topics", [5]), ("blocked_topics", [""]), ("escalation_email", "nobody"), ("escalation_email", None),
    ("allow_anonymous", "yes"), ("allow_anonymous", 1), ("widget_origins", {}), ("cache_enabled", None),
    ("degrade_to_local", None), ("degrade_to_local", "yes"),
    ("semantic_cache_threshold", 1.1), ("semantic_cache_threshold", "x"), ("no_such_field", 1), ("number", 9),
    ("by_staff", True), ("id", "x"), ("tenant", "globex"),
]  # fmt: skip


@pytest.fixture
def fresh(committed: None) -> Iterator[None]:
    """Acme's first version alone, before and after."""

    def wipe() -> None:
        with tenancy.in_platform():
            ConfigurationVersion.objects.filter(tenant__slug="acme", number__gt=1).delete()
        control.tenant_changed(cast.state("acme").ref.id)

    wipe()
    yield
    wipe()


def change(tenant: TenantState, by_staff: bool = False, **changes: Any) -> ConfigurationVersion:
    return configuration.change(tenant.ref, changes, author="test", by_staff=by_staff)


# --- Over REST -------------------------------------------------------------------------------------------------
def test_it_shows_all_fields_of_the_contract(acme_api: Caller) -> None:
    shown = acme_api.get("/tenants/acme/config").json()
    assert set(shown) == PUBLIC | {"version"}
    assert set(FIELDS) == PUBLIC


def test_every_field_can_be_changed_and_reads_back_as_written(acme_api: Caller, fresh: None) -> None:
    answer = acme_api.patch("/tenants/acme/config", VALUES)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"version": 2, **VALUES}
    assert acme_api.get("/tenants/acme/config").json() == answer.json()
    assert set(VALUES) == PUBLIC


def test_each_change_is_a_new_version_and_no_change_is_none(acme_api: Caller, fresh: None) -> None:
    versions = [
        acme_api.patch("/tenants/acme/config", {"greeting": greeting}).json()["version"]
        for greeting in ("One", "Two", "Two", "Three")
    ]
    assert versions == [2, 3, 3, 4]


def test_null_takes_a_limit_away_that_the_tenant_set(acme_api: Caller, fresh: None) -> None:
    assert (
        acme_api.patch("/tenants/acme/config", {"monthly_token_budget": 5}).json()["monthly_token_budget"]
        == 5
    )
    assert (
        acme_api.patch("/tenants/acme/config", {"monthly_token_budget": None}).json()["monthly_token_budget"]
        is None
    )


def test_a_fallback_may_be_one_name(acme_api: Caller, fresh: None) -> None:
    assert acme_api.patch("/tenants/acme/config", {"fallback_model": "local"}).json()["fallback_model"] == [
        "local"
    ]


@pytest.mark.parametrize(("field", "value"), WRONG, ids=lambda value: str(value)[:20])
def test_a_wrong_value_is_422_and_changes_nothing(
    acme_api: Caller, fresh: None, field: str, value: Any
) -> None:
    answer = acme_api.patch("/tenants/acme/config", {"greeting": "changed", field: value})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), answer.text
    assert answer.json()["errors"][0]["field"].split(".")[0] == field
    assert acme_api.get("/tenants/acme/config").json()["version"] == 1


def test_a_tenant_may_lower_a_limit_and_not_raise_it_above_staffs(
    acme_api: Caller, staff_api: Caller, fresh: None
) -> None:
    assert staff_api.patch("/tenants/acme/config", {"requests_per_minute": 100}).status_code == 200
    assert acme_api.patch("/tenants/acme/config", {"requests_per_minute": 50}).status_code == 200
    assert acme_api.patch("/tenants/acme/config", {"requests_per_minute": 100}).status_code == 200
    for above in (101, None):
        answer = acme_api.patch("/tenants/acme/config", {"requests_per_minute": above, "greeting": "sneaked"})
        assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed")
    shown = acme_api.get("/tenants/acme/config").json()
    assert (shown["requests_per_minute"], shown["greeting"] == "sneaked") == (100, False)
    assert staff_api.patch("/tenants/acme/config", {"requests_per_minute": None}).status_code == 200


def test_another_tenants_configuration_is_not_found(acme_api: Caller) -> None:
    for slug in ("globex", "nobody"):
        assert acme_api.get(f"/tenants/{slug}/config").status_code == 404
        assert acme_api.patch(f"/tenants/{slug}/config", {"greeting": "mine"}).status_code == 404


def answers_with(api: Caller, conversation: str, model: str) -> bool:
    """Whether the worker comes to know of a change, by itself and soon."""
    return any(api.ask(conversation)["reply"]["model"] == model for _ in range(500))


def test_a_change_reaches_the_processes_that_chat(acme_api: Caller, fresh: None) -> None:
    """The worker (which model) and the web server (greeting, what is allowed)."""
    conversation = acme_api.begin(model=None)
    before = acme_api.ask(conversation)["reply"]["model"]  # both keep the old version now
    changed = {
        "primary_model": "sim-tokens=3",
        "greeting": "New greeting",
        "allowed_models": ["sim-tokens=3"],
    }
    assert acme_api.patch("/tenants/acme/config", changed).status_code == 200
    assert answers_with(acme_api, conversation, "sim-tokens=3")
    assert acme_api.post("/conversations").json()["greeting"] == "New greeting"
    refused = acme_api.post("/conversations", {"model": "sim-fast"})
    assert (refused.status_code, refused.json()["code"]) == (403, "model_not_allowed")
    again = {"primary_model": "auto", "allowed_models": None}
    assert acme_api.patch("/tenants/acme/config", again).status_code == 200
    assert answers_with(acme_api, conversation, before)


# --- The service -----------------------------------------------------------------------------------------------
def test_a_version_never_changes(acme: TenantState) -> None:
    first = configuration.current(acme.ref)
    change(acme, greeting="Other")
    with tenancy.in_platform():
        assert ConfigurationVersion.objects.get(pk=first.pk).greeting == first.greeting
        assert (
            ConfigurationVersion.objects.get(tenant_id=acme.ref.id, number=first.number + 1).author == "test"
        )


def test_a_change_is_seen_at_once_in_its_own_process(acme: TenantState) -> None:
    assert selectors.state(acme.ref.id).configuration.greeting != "Other"
    change(acme, greeting="Other")
    assert selectors.state(acme.ref.id).configuration.greeting == "Other"


def test_ceilings_are_those_of_the_last_staff_version(acme: TenantState) -> None:
    change(acme, by_staff=True, monthly_cost_budget_usd=Decimal("10"))
    change(acme, monthly_cost_budget_usd=Decimal("5"))
    change(acme, by_staff=True, monthly_cost_budget_usd=Decimal("7"))
    assert change(acme, monthly_cost_budget_usd=Decimal("6.999999")).number
    with pytest.raises(Problem) as caught:
        change(acme, monthly_cost_budget_usd=Decimal("7.000001"))
    assert caught.value.code is Code.NOT_ALLOWED


def test_a_staff_change_of_something_else_does_not_lower_the_ceiling(acme: TenantState) -> None:
    change(acme, by_staff=True, requests_per_minute=100)
    change(acme, requests_per_minute=10)
    change(acme, by_staff=True, greeting="Hello from staff")
    assert change(acme, requests_per_minute=100).requests_per_minute == 100


def test_unknown_fields_are_refused(acme: TenantState) -> None:
    with pytest.raises(Problem) as caught:
        change(acme, number=7)
    assert caught.value.more["errors"][0]["field"] == "number"


def test_two_tenants_number_their_versions_apart(acme: TenantState, globex: TenantState) -> None:
    before = configuration.current(globex.ref).number
    change(acme, greeting="Other")
    assert configuration.current(globex.ref).number == before
