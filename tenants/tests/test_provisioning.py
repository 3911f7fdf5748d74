"""The birth of a tenant: over REST to active, and what happens when it fails on the way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from chatplatform import tenancy
from chatplatform.api.problem import Code, Problem
from chatplatform.postgres import roles
from chatplatform.testing.clients import PATIENCE, Caller
from chatplatform.testing.live import Live
from tenants.models import ApiKey, ConfigurationVersion, Domain, Tenant
from tenants.selectors import TenantState
from tenants.services import births, lifecycle, provisioning
from tenants.vocabulary import Scope, TenantStatus

SLUG = "initech"


@pytest.fixture
def erased(committed: None) -> Iterator[None]:
    """No tenant `initech` before or after."""
    yield
    with tenancy.in_platform():
        born = Tenant.objects.filter(slug=SLUG).exists()
    if born:
        lifecycle.erase(SLUG)


def status() -> str:
    with tenancy.in_platform():
        return Tenant.objects.get(slug=SLUG).status


def wait_until_active(api: Caller) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE
    while (shown := api.get(f"/tenants/{SLUG}").json())["status"] == "provisioning":
        assert time.monotonic() < deadline, shown
        time.sleep(0.05)
    return dict(shown)


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


# --- Over REST -------------------------------------------------------------------------------------------------
def test_a_new_tenant_becomes_active_and_chats_with_its_first_key(
    live: Live, staff_api: Caller, acme_api: Caller, erased: None
) -> None:
    once = {"Idempotency-Key": str(uuid4())}
    body = {
        "name": "Initech", "slug": SLUG, "tier": "pro",
        "rate_limits": {"requests_per_minute": 100, "tokens_per_minute": 5000},
        "model_preferences": {"primary": "sim-tokens=4", "fallback": "local"},
    }  # fmt: skip
    made = staff_api.post("/tenants", body, headers=once)
    assert made.status_code == 201, made.text
    assert set(made.json()) == {"id", "slug", "name", "tier", "status", "url", "created_at", "api_key"}
    assert made.json()["status"] in ("provisioning", "active")
    shown = wait_until_active(staff_api)
    assert shown == {**{name: made.json()[name] for name in shown}, "status": "active"}
    assert shown["url"] == f"http://{SLUG}.localhost:{live.port}/"

    own = Caller(live, made.json()["api_key"])
    assert own.ask(own.begin(model=None))["reply"]["model"] == "sim-tokens=4"
    assert code(own.get(f"/tenants/{SLUG}/config")) == (403, "not_allowed")  # its scope is `chat` alone
    settings = staff_api.get(f"/tenants/{SLUG}/config").json()
    assert (settings["requests_per_minute"], settings["tokens_per_minute"]) == (100, 5000)
    assert (settings["primary_model"], settings["fallback_model"]) == ("sim-tokens=4", ["local"])

    again = staff_api.post("/tenants", body, headers=once)
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (201, "true")
    masked = again.json()["api_key"]
    assert masked.endswith("…")
    assert own.key is not None
    assert own.key not in again.text
    assert len(masked) < len(own.key) / 2
    assert code(staff_api.post("/tenants", {"name": "Other", "slug": SLUG})) == (409, "slug_taken")
    assert acme_api.get(f"/tenants/{SLUG}").status_code == 404


def test_the_shown_once_key_is_stored_nowhere(staff_api: Caller, erased: None) -> None:
    once = {"Idempotency-Key": str(uuid4())}
    key = staff_api.post("/tenants", {"name": "Initech"}, headers=once).json()["api_key"]
    assert key.startswith("cp_live_")
    wait_until_active(staff_api)
    with roles.admin_connection() as admin:
        rows = admin.execute("SELECT answer::text FROM tenants_platformidempotencyrecord").fetchall()
    assert rows
    assert not any(key[:40] in text for (text,) in rows if text)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, (422, "invalid_request")),
        ({"name": ""}, (422, "invalid_request")),
        ({"name": 5}, (422, "invalid_request")),
        ({"name": "x" * 201}, (422, "invalid_request")),
        ({"name": "♥"}, (422, "invalid_request")),
        ({"name": "Umbrella\nBcc: x@evil.example"}, (422, "invalid_request")),
        ({"name": "X", "slug": "Initech"}, (422, "invalid_request")),
        ({"name": "X", "slug": "a_b"}, (422, "invalid_request")),
        ({"name": "X", "slug": "-a"}, (422, "invalid_request")),
        ({"name": "X", "slug": "a" * 41}, (422, "invalid_request")),
        ({"name": "X", "slug": "initech\n"}, (422, "invalid_request")),
        ({"name": "X", "slug": "x\u0000"}, (422, "invalid_request")),
        ({"name": "X", "slug": "acme"}, (409, "slug_taken")),
        ({"name": "Acme"}, (409, "slug_taken")),
        ({"name": "X", "slug": "admin"}, (409, "slug_taken")),
        ({"name": "X", "tier": "gold"}, (422, "invalid_request")),
        ({"name": "X", "tier": 5}, (422, "invalid_request")),
        ({"name": "X", "tier": []}, (422, "invalid_request")),
        ({"name": "X", "rate_limits": []}, (422, "invalid_request")),
        ({"name": "X", "rate_limits": {"requests_per_minute": -1}}, (422, "invalid_request")),
        ({"name": "X", "rate_limits": {"tokens_per_minute": "5"}}, (422, "invalid_request")),
        ({"name": "X", "model_preferences": {"primary": ""}}, (422, "invalid_request")),
        ({"name": "X", "model_preferences": {"fallback": 5}}, (422, "invalid_request")),
        ({"name": "X", "model_preferences": {"fallback": [None]}}, (422, "invalid_request")),
        ({"name": "X", "model_preferences": {"fallback": "a\u0000"}}, (422, "invalid_request")),
        ({"name": "X", "model_preferences": {"fallback": ["local"] * 11}}, (422, "invalid_request")),
        ({"name": "X", "model_preferences": {"fallback": {"a": 1}}}, (422, "invalid_request")),
    ],
)
def test_a_wrong_tenant_is_refused(
    staff_api: Caller, body: dict[str, Any], expected: tuple[int, str]
) -> None:
    answer = staff_api.post("/tenants", body)
    assert code(answer) == expected, answer.text
    assert staff_api.get("/tenants/x").status_code == 404


def test_a_tenants_key_sees_its_own_tenant_only(acme_api: Caller) -> None:
    shown = acme_api.get("/tenants/acme")
    assert shown.status_code == 200
    assert set(shown.json()) == {"id", "slug", "name", "tier", "status", "url", "created_at"}
    for other in ("globex", "nobody"):
        assert code(acme_api.get(f"/tenants/{other}")) == (404, "not_found")


# --- The service -----------------------------------------------------------------------------------------------
def test_a_birth_that_fails_says_so_and_can_be_tried_again(
    erased: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant, _, _ = provisioning.request_tenant("Initech", SLUG)
    with monkeypatch.context() as broken:
        broken.setattr(roles, "create_schema", lambda schema: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            provisioning.provision(tenant.id)
    assert status() == TenantStatus.FAILED
    with tenancy.in_platform():
        assert "ZeroDivisionError" in Tenant.objects.get(slug=SLUG).status_detail
    assert provisioning.provision(tenant.id).status == TenantStatus.ACTIVE
    with tenancy.in_platform():
        assert Tenant.objects.get(slug=SLUG).status_detail == ""


def test_a_birth_that_stopped_half_way_goes_on(erased: None, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant, _, _ = provisioning.request_tenant("Initech", SLUG)
    roles.create_schema(tenant.schema_name)  # and then the worker died
    assert provisioning.provision(tenant.id).status == TenantStatus.ACTIVE
    assert provisioning.provision(tenant.id).status == TenantStatus.ACTIVE, "repeating it changes nothing"


def test_provisioning_does_not_wake_a_suspended_tenant(erased: None) -> None:
    tenant, _, _ = provisioning.request_tenant("Initech", SLUG)
    provisioning.provision(tenant.id)
    lifecycle.suspend(SLUG)
    assert provisioning.provision(tenant.id).status == TenantStatus.SUSPENDED


def test_a_request_is_all_or_nothing(db: None) -> None:
    def counted() -> list[int]:
        with tenancy.in_platform():
            return [model.objects.count() for model in (Tenant, ApiKey, ConfigurationVersion, Domain)]

    before = counted()
    with pytest.raises(Problem) as caught:
        provisioning.request_tenant("Initech", SLUG, domains=["one.example", "one.example"])
    assert caught.value.code is Code.SLUG_TAKEN
    assert counted() == before


def test_a_request_writes_the_first_configuration_and_key(acme: TenantState) -> None:
    tenant, key, shown = provisioning.request_tenant("Initech", configuration={"temperature": 0.5})
    assert (tenant.slug, tenant.status, key.scopes) == (SLUG, TenantStatus.REQUESTED, [Scope.CHAT])
    assert key.public_id in shown
    with tenancy.in_platform():
        version = ConfigurationVersion.objects.get(tenant=tenant)
    assert (version.number, version.by_staff, version.temperature) == (1, True, 0.5)


def test_a_key_works_only_once_the_tenant_is_active(live: Live, erased: None) -> None:
    _, _, shown = provisioning.request_tenant("Initech", SLUG)
    assert code(Caller(live, shown).get("/conversations")) == (403, "not_allowed")


@pytest.mark.parametrize("slug", sorted(provisioning.RESERVED))
def test_reserved_names_are_taken(slug: str) -> None:
    with pytest.raises(Problem) as caught:
        provisioning.request_tenant("X", slug)
    assert caught.value.code is Code.SLUG_TAKEN


def test_only_a_failed_or_silent_birth_is_started_again(acme: TenantState) -> None:
    assert births.start_again(acme.ref.id) is False
    tenant, _, _ = provisioning.request_tenant("Initech", SLUG)
    assert births.start_again(tenant.id) is False
    with tenancy.in_platform():
        Tenant.objects.filter(id=tenant.id).update(status=TenantStatus.FAILED)
    assert births.start_again(tenant.id) is True
    assert status() == TenantStatus.REQUESTED


def test_a_birth_whose_job_was_lost_is_picked_up_once(acme: TenantState) -> None:
    tenant, _, _ = provisioning.request_tenant("Initech", SLUG)
    assert births.pick_up_forgotten() == 0
    with tenancy.in_platform():
        Tenant.objects.filter(id=tenant.id).update(updated_at=tenant.updated_at - 2 * births.PATIENCE)
    assert births.pick_up_forgotten() == 1
    assert births.pick_up_forgotten() == 0
