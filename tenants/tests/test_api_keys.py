"""API keys: made, checked, revoked, and what each scope opens."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from django.urls import get_resolver, resolve
from django.utils import timezone

from chatplatform import tenancy
from chatplatform.api.problem import Code, Problem
from chatplatform.testing import cast
from chatplatform.testing.clients import Caller
from chatplatform.testing.live import Live
from tenants.api.base import ScopedView
from tenants.auth import authentication
from tenants.models import ApiKey, Tenant
from tenants.selectors import TenantState
from tenants.services import api_key_uses, api_keys
from tenants.vocabulary import Scope

NOBODY = "00000000-0000-7000-8000-000000000000"


def made(tenant: TenantState | None, *scopes: str, expires_in: timedelta | None = None) -> tuple[ApiKey, str]:
    with tenancy.in_platform():
        owner = Tenant.objects.get(id=tenant.ref.id) if tenant else None
    return api_keys.create(owner, scopes, expires_in=expires_in)


def refused(shown: str) -> None:
    with pytest.raises(Problem) as caught:
        api_keys.check(shown)
    assert caught.value.code is Code.NOT_AUTHENTICATED


# --- The key itself --------------------------------------------------------------------------------------------
def test_a_key_looks_as_the_contract_says(acme: TenantState) -> None:
    row, shown = made(acme, Scope.CHAT)
    prefix, environment, public_id, secret = shown.split("_")
    assert (prefix, environment, public_id, len(secret)) == ("cp", "live", row.public_id, 32 + 6)


def test_only_a_hash_is_stored(acme: TenantState) -> None:
    row, shown = made(acme, Scope.CHAT)
    with tenancy.in_platform():
        stored = str(ApiKey.objects.filter(pk=row.pk).values().get())
    assert shown.rsplit("_", 1)[1] not in stored
    assert bytes(row.secret_hash) == hashlib.sha256(shown.encode()).digest()


def test_a_key_is_recognised(acme: TenantState) -> None:
    row, shown = made(acme, Scope.CHAT, Scope.CONFIG, Scope.CHAT)
    found = api_keys.check(shown)
    assert (found.pk, found.scopes, found.tenant_id) == (row.pk, [Scope.CHAT, Scope.CONFIG], acme.ref.id)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda key: key[:-1] + ("0" if key[-1] != "0" else "1"),  # the checksum
        lambda key: key.replace("_live_", "_test_"),
        lambda key: key + "x",
        lambda key: key[:-1],
        lambda key: key.upper(),
        lambda key: key + "\n",
        lambda key: "",
        lambda key: "cp_live_" + "é" * 12 + "_" + "a" * 38,
    ],
)
def test_a_key_that_was_touched_is_refused(acme: TenantState, spoil: Callable[[str], str]) -> None:
    refused(spoil(made(acme, Scope.CHAT)[1]))


def test_another_secret_with_a_right_checksum_is_refused(acme: TenantState) -> None:
    row, shown = made(acme, Scope.CHAT)
    start = f"cp_live_{row.public_id}_{'a' * 32}"
    refused(start + api_keys._checksum(start))
    assert api_keys.check(shown)


def test_an_expired_key_is_refused(acme: TenantState) -> None:
    row, shown = made(acme, Scope.CHAT, expires_in=timedelta(hours=1))
    assert api_keys.check(shown).usable
    with tenancy.in_platform():
        ApiKey.objects.filter(pk=row.pk).update(expires_at=timezone.now())
    api_keys.forget(row.public_id)
    refused(shown)


def test_a_revoked_key_is_refused_at_once_and_for_good(acme: TenantState) -> None:
    row, shown = made(acme, Scope.CHAT)
    assert api_keys.check(shown)
    first = api_keys.revoke(row.public_id).revoked_at
    refused(shown)
    assert api_keys.revoke(row.public_id).revoked_at == first
    with pytest.raises(ApiKey.DoesNotExist):
        api_keys.revoke("nosuchkey123")


def test_a_key_without_a_tenant_is_staffs_only_with_the_scope_platform(acme: TenantState) -> None:
    row, shown = made(None, Scope.PLATFORM, Scope.CONFIG)
    assert authentication.bearer(f"Bearer {shown}", "acme", None).platform
    with pytest.raises(Problem):
        made(None, Scope.CONFIG)
    with tenancy.in_platform():
        ApiKey.objects.filter(pk=row.pk).update(scopes=[Scope.CONFIG])  # from before that was refused
    api_keys.forget(row.public_id)
    assert not authentication.bearer(f"Bearer {shown}", "acme", None).platform


@pytest.mark.parametrize("scopes", [[], ["everything"], ["chat", "everything"], ["platform"]])
def test_wrong_scopes_are_refused(acme: TenantState, scopes: list[str]) -> None:
    with pytest.raises(Problem) as caught:
        made(acme, *scopes)
    assert caught.value.more["errors"][0]["field"] == "scopes"


def test_durations_are_short_words() -> None:
    assert api_keys.duration("90d") == timedelta(days=90)
    assert api_keys.duration("30m") == timedelta(minutes=30)
    for wrong in ("", "90", "d", "-1d", "1y", "1.5h", "999999d", " 1d"):
        with pytest.raises(ValueError, match="duration"):
            api_keys.duration(wrong)


# --- At the API ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer nonsense", "Basic YTpi", "cp_live_x", "Bearer é"]
)
def test_without_a_key_it_is_401(live: Live, header: str | None) -> None:
    headers = [(b"authorization", header.encode())] if header is not None else []
    answer = httpx2.get(f"{live.api}/conversations", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_revoked_key_stops_working_in_every_process(live: Live, committed: None) -> None:
    shown = cast.key("acme", Scope.CHAT)
    caller = Caller(live, shown)
    assert caller.get("/conversations").status_code == 200
    api_keys.revoke(shown.split("_")[2])
    answers = (caller.get("/conversations").status_code for _ in range(10_000))
    assert next(status for status in answers if status != 200) == 401


CALLS: dict[str, list[tuple[str, str]]] = {
    Scope.CHAT: [
        ("GET", "/conversations"),
        ("POST", "/conversations"),
        ("GET", f"/conversations/{NOBODY}"),
        ("GET", f"/conversations/{NOBODY}/messages"),
        ("POST", f"/conversations/{NOBODY}/messages"),
        ("GET", f"/conversations/{NOBODY}/replies/{NOBODY}"),
        ("GET", f"/conversations/{NOBODY}/replies/{NOBODY}/events"),
        ("POST", f"/conversations/{NOBODY}/replies/{NOBODY}/cancel"),
        ("POST", f"/conversations/{NOBODY}/messages/{NOBODY}/feedback"),
        ("POST", f"/conversations/{NOBODY}/rating"),
        ("POST", f"/conversations/{NOBODY}/resolve"),
        ("POST", f"/conversations/{NOBODY}/escalate"),
        ("POST", "/ws-tickets"),
        ("POST", "/tokens"),
        ("GET", "/tenants/acme"),
    ],
    Scope.BILLING_READ: [
        ("GET", "/tenants/acme/usage"),
        ("GET", "/usage/daily"),
        ("GET", "/invoices"),
        ("GET", f"/invoices/{NOBODY}"),
    ],
    Scope.CONFIG: [
        ("GET", "/tenants/acme/config"),
        ("PATCH", "/tenants/acme/config"),
        ("GET", "/tenants/acme/token-issuers"),
        ("POST", "/tenants/acme/token-issuers"),
        ("GET", f"/tenants/acme/token-issuers/{NOBODY}"),
        ("DELETE", f"/tenants/acme/token-issuers/{NOBODY}"),
        ("GET", "/tenants/acme/api-keys"),
        ("GET", "/tenants/acme/api-keys/nosuchkey123"),
        ("DELETE", "/tenants/acme/api-keys/nosuchkey123"),
        ("POST", "/tenants/acme/api-keys/nosuchkey123/rotate"),
        ("DELETE", "/tenants/acme/contacts/nobody"),
    ],
    Scope.PLATFORM: [("POST", "/tenants")],
}
ALL = [(scope, *call) for scope, calls in CALLS.items() for call in calls]


@pytest.fixture(scope="module")
def callers(live: Live) -> dict[str, Caller]:
    """One caller for each scope, with that scope alone."""
    return {scope: Caller(live, cast.key("acme", scope)) for scope in Scope if scope is not Scope.PLATFORM}


@pytest.mark.parametrize(("needed", "method", "path"), ALL)
def test_a_scope_opens_its_own_calls_and_no_others(
    callers: dict[str, Caller], needed: str, method: str, path: str
) -> None:
    for scope, caller in callers.items():
        answer = caller.http.request(
            method, path, json={"rating": "no", "stars": 0} if method == "POST" else None
        )
        denied = answer.status_code == 403 and answer.json()["code"] == "not_allowed"
        assert denied == (scope != needed), f"{scope}: {answer.status_code} {answer.text}"


@pytest.mark.parametrize(("needed", "method", "path"), [call for call in ALL if call[0] != Scope.PLATFORM])
def test_a_platform_key_opens_all_calls(staff_api: Caller, needed: str, method: str, path: str) -> None:
    answer = staff_api.http.request(
        method, path, json={"rating": "no"} if method == "POST" else {}, headers={"X-Tenant-ID": "acme"}
    )
    assert answer.status_code not in (401, 403), answer.text


def test_every_call_of_the_api_is_in_the_table_with_its_scope() -> None:
    def views(patterns: Any) -> Iterator[Any]:
        for one in patterns:
            yield from views(one.url_patterns) if hasattr(one, "url_patterns") else [view_of(one.callback)]

    def view_of(callback: Any) -> Any:
        return getattr(callback, "cls", object)

    found = {
        (view.required_scope, method.upper(), view)
        for view in views(get_resolver().url_patterns)
        for method in ("get", "post", "put", "patch", "delete")
        if issubclass(view, ScopedView) and hasattr(view, method)
    }
    assert {(scope, method, view_of(resolve(f"/api/v1{path}").func)) for scope, method, path in ALL} == found


def test_keys_of_two_tenants_are_separate_credentials(live: Live) -> None:
    key = str(uuid4())
    for slug in ("acme", "globex"):
        made_now = Caller(live, live.keys[slug]).post("/conversations", headers={"Idempotency-Key": key})
        assert (made_now.status_code, made_now.json()["tenant"]) == (201, slug)


# --- Replacing one ---------------------------------------------------------------------------------------------
def test_a_key_is_replaced_with_overlap(acme: TenantState) -> None:
    row, shown = made(acme, Scope.CHAT, Scope.CONFIG, expires_in=timedelta(days=90))
    old, new, new_shown = api_keys.rotate(row.public_id, timedelta(hours=24))
    assert (new.tenant_id, new.name, new.scopes) == (row.tenant_id, row.name, row.scopes)
    assert {api_keys.check(one).public_id for one in (shown, new_shown)} == {old.public_id, new.public_id}
    assert old.expires_at and timedelta(hours=23) < old.expires_at - timezone.now() <= timedelta(hours=24)
    assert new.expires_at and timedelta(days=89) < new.expires_at - timezone.now() <= timedelta(days=90)


def test_an_overlap_makes_no_key_live_longer(acme: TenantState) -> None:
    row, _ = made(acme, Scope.CHAT, expires_in=timedelta(hours=1))
    assert api_keys.rotate(row.public_id, timedelta(days=9))[0].expires_at == row.expires_at


def test_without_an_overlap_the_old_key_ends_at_once(acme: TenantState) -> None:
    row, shown = made(acme, Scope.CHAT)
    assert api_keys.check(shown), "and is kept by this process"
    _, new, new_shown = api_keys.rotate(row.public_id, timedelta())
    refused(shown)
    assert api_keys.check(new_shown).expires_at is None
    with pytest.raises(Problem):
        api_keys.rotate(row.public_id, timedelta())
    api_keys.revoke(new.public_id)
    with pytest.raises(Problem):
        api_keys.rotate(new.public_id, timedelta(days=1))
    with pytest.raises(ApiKey.DoesNotExist):
        api_keys.rotate("nosuchkey123", timedelta())


# --- When it was last used -------------------------------------------------------------------------------------
def last_used(key: ApiKey) -> datetime | None:
    with tenancy.in_platform():
        return ApiKey.objects.get(pk=key.pk).last_used_at


def test_uses_are_written_for_all_keys_at_once_and_at_most_once_a_minute(
    acme: TenantState, django_assert_num_queries: Any
) -> None:
    api_keys.used.clear()
    keys = [made(acme, Scope.CHAT) for _ in range(3)]
    for _ in range(5):
        for _, shown in keys[:2]:
            api_keys.check(shown)
    with django_assert_num_queries(1):
        assert api_key_uses.note() == 2
    times = [last_used(row) for row, _ in keys]
    assert times[0] == times[1] is not None
    assert times[2] is None
    api_keys.check(keys[0][1])
    assert api_key_uses.note() == 0, "the minute is not over"
    with tenancy.in_platform():
        ApiKey.objects.filter(pk=keys[0][0].pk).update(last_used_at=timezone.now() - timedelta(seconds=61))
    api_keys.check(keys[0][1])
    assert api_key_uses.note() == 1
    with django_assert_num_queries(0):
        assert api_key_uses.note() == 0


def test_a_key_that_is_refused_was_not_used(acme: TenantState) -> None:
    row, shown = made(acme, Scope.CHAT)
    api_keys.used.clear()
    api_keys.revoke(row.public_id)
    refused(shown)
    assert not api_keys.used


# --- Over the API ----------------------------------------------------------------------------------------------
def test_a_tenant_sees_replaces_and_revokes_its_keys(live: Live, acme_api: Caller) -> None:
    mine = cast.key("acme", Scope.CHAT).split("_")[2]
    path = f"/tenants/acme/api-keys/{mine}"
    listed = {key["id"]: key for key in acme_api.get("/tenants/acme/api-keys").json()["results"]}
    assert listed[mine] == acme_api.get(path).json()
    assert set(listed[mine]) == {
        "id", "name", "scopes", "created_at", "expires_at", "last_used_at", "revoked_at"
    }  # fmt: skip
    answer = acme_api.post(f"{path}/rotate", {"overlap": 60}, headers={"Idempotency-Key": mine})
    assert answer.status_code == 201, answer.text
    new = answer.json()
    assert Caller(live, new["api_key"]).get("/conversations").status_code == 200
    assert new["replaces"]["id"] == mine
    assert new["replaces"]["expires_at"] is not None
    again = acme_api.post(f"{path}/rotate", {"overlap": 60}, headers={"Idempotency-Key": mine})
    assert again.json() == {**new, "api_key": new["api_key"][:20] + "…"}, "shown once"
    assert acme_api.http.delete(f"/tenants/acme/api-keys/{new['id']}").status_code == 204
    assert acme_api.get(f"/tenants/acme/api-keys/{new['id']}").json()["revoked_at"]
    assert acme_api.post(f"/tenants/acme/api-keys/{new['id']}/rotate").status_code == 422


def test_no_key_makes_itself_a_stronger_one(live: Live, acme_api: Caller) -> None:
    weak = Caller(live, cast.key("acme", Scope.CONFIG))
    strong = cast.key("acme", Scope.CHAT, Scope.CONFIG).split("_")[2]
    assert weak.post(f"/tenants/acme/api-keys/{strong}/rotate").status_code == 403
    assert acme_api.post(f"/tenants/acme/api-keys/{strong}/rotate").status_code == 201


def test_another_tenants_keys_are_not_found(globex_api: Caller) -> None:
    mine = cast.key("acme", Scope.CHAT).split("_")[2]
    for path in (
        "/tenants/acme/api-keys",
        f"/tenants/acme/api-keys/{mine}",
        f"/tenants/globex/api-keys/{mine}",
    ):
        assert globex_api.get(path).status_code == 404
    for tenant in ("acme", "globex"):
        assert globex_api.post(f"/tenants/{tenant}/api-keys/{mine}/rotate").status_code == 404
        assert globex_api.http.delete(f"/tenants/{tenant}/api-keys/{mine}").status_code == 404
