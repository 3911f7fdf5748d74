"""Suspending, resuming and erasing a tenant, as its callers notice it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from django.db import DatabaseError

from chatplatform import jobs, tenancy
from chatplatform.api.problem import Code, Problem
from chatplatform.postgres import roles
from chatplatform.testing.clients import SLOW, Caller
from chatplatform.testing.live import Live
from tenants import selectors
from tenants.models import ApiKey, Contact, Tenant
from tenants.selectors import TenantState
from tenants.services import lifecycle, provisioning
from tenants.vocabulary import TenantStatus

SLUG = "hooli"


@pytest.fixture
def hooli(live: Live, committed: None) -> Iterator[Caller]:
    """A third tenant, to be suspended and erased."""
    tenant, _, key = provisioning.request_tenant("Hooli", SLUG, configuration={"primary_model": "sim-fast"})
    provisioning.provision(tenant.id)
    yield Caller(live, key)
    with tenancy.in_platform():
        if not Tenant.objects.filter(slug=SLUG).exists():
            return
    lifecycle.erase(SLUG)


def first_refusal(caller: Caller) -> tuple[int, str]:
    """The first answer that is not 200: the control bus tells the web server within milliseconds."""
    for _ in range(10_000):
        answer = caller.get("/conversations")
        if answer.status_code != 200:
            return answer.status_code, answer.json()["code"]
    raise AssertionError("never refused")


def test_a_suspended_tenant_is_refused_everywhere(
    live: Live, hooli: Caller, acme_api: Caller, staff_api: Caller
) -> None:
    assert hooli.get("/conversations").status_code == 200
    lifecycle.suspend(SLUG)
    assert first_refusal(hooli) == (403, "tenant_suspended")
    page = httpx2.get(f"{live.url}/", headers={"Host": f"{SLUG}.localhost", "Accept": "text/html"})
    assert page.status_code == 403
    assert "text/html" in page.headers["Content-Type"]
    assert staff_api.get(f"/tenants/{SLUG}").json()["status"] == "suspended"
    assert acme_api.get("/conversations").status_code == 200


def test_its_sockets_are_closed_4403_its_streams_end_and_others_stay(hooli: Caller, acme_api: Caller) -> None:
    with (
        hooli.socket(hooli.begin()) as socket,
        hooli.streaming(hooli.begin(SLOW)) as events,
        acme_api.socket(acme_api.begin()) as other,
    ):
        next(event for event in events if event.kind == "delta")  # a reply not yet begun would fail at once
        lifecycle.suspend(SLUG)
        assert socket.close_code() == 4403
        assert {event.kind for event in events} <= {"delta"}, "a stream ends, without a last event"
        other.say()
        assert other.reply()[-1].kind == "completed"


def test_a_reply_under_way_survives_a_suspension(hooli: Caller) -> None:
    conversation = hooli.begin(SLOW)
    with hooli.streaming(conversation) as events:
        reply = next(event for event in events if event.kind == "delta").data["reply_id"]
        lifecycle.suspend(SLUG)
        assert first_refusal(hooli) == (403, "tenant_suspended")
        lifecycle.resume(SLUG)
        while hooli.get("/conversations").status_code != 200:
            pass
        assert hooli.stop(conversation, reply)["status"] == "cancelled"


def test_a_resumed_tenant_is_served_again(hooli: Caller) -> None:
    lifecycle.suspend(SLUG)
    first_refusal(hooli)
    lifecycle.resume(SLUG)
    assert any(hooli.get("/conversations").status_code == 200 for _ in range(10_000))
    assert hooli.ask(hooli.begin())["reply"]["status"] == "completed"


def test_an_erased_tenant_is_gone(live: Live, hooli: Caller) -> None:
    hooli.ask(hooli.begin())
    with tenancy.in_platform():
        tenant = Tenant.objects.get(slug=SLUG)
    lifecycle.erase(SLUG)
    assert first_refusal(hooli)[0] in (401, 403)
    with tenancy.in_platform():
        assert not ApiKey.objects.filter(tenant_id=tenant.id).exists()
    with roles.admin_connection() as admin:
        schemas = admin.execute(
            "SELECT 1 FROM pg_namespace WHERE nspname = %s", [tenant.schema_name]
        ).fetchall()
        left = admin.execute(
            "SELECT 1 FROM pg_roles WHERE rolname LIKE %s", [f"%\\_{tenant.schema_name}"]
        ).fetchall()
    assert (schemas, left) == ([], [])
    with pytest.raises(DatabaseError), tenancy.in_tenant(tenant.ref):
        Contact.objects.count()


def test_erasing_waits_for_a_birth_under_way(committed: None) -> None:
    tenant, _, _ = provisioning.request_tenant("Hooli", SLUG)
    with ThreadPoolExecutor(1) as pool:
        with provisioning.alone(tenant):
            erasing = pool.submit(erase_in_thread)
            with pytest.raises(TimeoutError):
                erasing.result(timeout=0.5)
            with tenancy.in_platform():
                assert Tenant.objects.get(slug=SLUG).status == TenantStatus.REQUESTED
        erasing.result(timeout=20)
    with tenancy.in_platform():
        assert not Tenant.objects.filter(slug=SLUG).exists()
    with pytest.raises(Tenant.DoesNotExist):
        provisioning.provision(tenant.id)


def erase_in_thread() -> None:
    try:
        lifecycle.erase(SLUG)
    finally:
        jobs.close_connections()


def test_moves_that_make_no_sense_are_refused(db: None) -> None:
    tenant, _, _ = provisioning.request_tenant("Hooli", SLUG)
    assert tenant.status == TenantStatus.REQUESTED
    for move in (lifecycle.suspend, lifecycle.resume):
        with pytest.raises(Problem) as caught:
            move(SLUG)
        assert caught.value.code is Code.INVALID_REQUEST
        with pytest.raises(Tenant.DoesNotExist):
            move("nobody")


def test_moving_twice_changes_nothing(acme: TenantState) -> None:
    assert lifecycle.resume("acme").status == TenantStatus.ACTIVE
    assert lifecycle.suspend("acme").status == TenantStatus.SUSPENDED
    assert lifecycle.suspend("acme").status == TenantStatus.SUSPENDED
    assert selectors.state(acme.ref.id).status == TenantStatus.SUSPENDED
