"""The staff console: tenants and their birth."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.utils import timezone

from chatplatform import jobs, tenancy
from tenants.models import ApiKey, Domain, Tenant
from tenants.selectors import TenantState
from tenants.services import api_keys, births
from tenants.tests.console import KEY, Console, page, person
from tenants.vocabulary import TenantStatus


@pytest.fixture
def root(acme: TenantState) -> Console:
    """A superuser."""
    return Console(person("root", superuser=True))


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The jobs that would have been sent."""
    jobs_sent: list[tuple[Any, ...]] = []
    monkeypatch.setattr(jobs, "enqueue", lambda *job, **_: jobs_sent.append(job))
    return jobs_sent


def stored(slug: str) -> Tenant:
    with tenancy.in_platform():
        return Tenant.objects.get(slug=slug)


def test_the_list_finds_a_tenant_by_its_host_name(
    root: Console, acme: TenantState, globex: TenantState
) -> None:
    with tenancy.in_platform():
        Domain.objects.create(tenant_id=globex.ref.id, domain="help.globex.example")
    html = root.text("tenants/tenant/", q="help.globex")
    assert "Globex" in html
    assert "Acme" not in html


def test_a_new_tenant_is_requested_and_its_key_shown_once(
    root: Console, sent: list[tuple[Any, ...]], django_capture_on_commit_callbacks: Callable[..., Any]
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        html = root.post(
            "tenants/tenant/add/", name="Umbrella", slug="", tier="pro", domains="chat.umbrella.example"
        ).content.decode()
    tenant = stored("umbrella")
    assert (tenant.status, tenant.tier) == (TenantStatus.REQUESTED, "pro")
    assert sent == [(births.PROVISION, str(tenant.pk))]
    key = KEY.search(html)
    assert key
    assert api_keys.check(key[0]).tenant_id == tenant.pk
    assert not KEY.search(root.text(f"tenants/tenant/{tenant.pk}/birth/"))
    with tenancy.in_platform():
        assert not any(KEY.search(str(value)) for value in root.client.session.values())


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({"name": ""}, "required"),
        ({"name": "Umbrella\nBcc: x"}, "one line"),
        ({"slug": "acme"}, "taken"),
        ({"slug": "admin"}, "reserved"),
        ({"slug": "Up"}, "lower-case"),
        ({"tier": "gold"}, "valid choice"),
        ({"domains": "good.example\nhttps://x.example"}, "without https://"),
        ({"domains": "umbrella.localhost"}, "belong to the platform"),
    ],
)
def test_a_wrong_request_makes_nothing_and_says_why(root: Console, typed: dict[str, str], said: str) -> None:
    with tenancy.in_platform():
        before = (Tenant.objects.count(), ApiKey.objects.count())
    answer = root.post("tenants/tenant/add/", **{"name": "Umbrella", "tier": "free", **typed})
    assert said in answer.content.decode()
    with tenancy.in_platform():
        assert (Tenant.objects.count(), ApiKey.objects.count()) == before


@pytest.mark.parametrize(
    ("status", "reached", "finished", "failed"),
    [
        (TenantStatus.REQUESTED, 1, False, False),
        (TenantStatus.SCHEMA, 2, False, False),
        (TenantStatus.SEEDED, 3, False, False),
        (TenantStatus.ACTIVE, 4, True, False),
        (TenantStatus.SUSPENDED, 4, True, False),
        (TenantStatus.FAILED, 2, False, True),
    ],
)
def test_progress_follows_the_birth(
    root: Console, acme: TenantState, status: str, reached: int, finished: bool, failed: bool
) -> None:
    with tenancy.in_platform():
        Tenant.objects.filter(slug="acme").update(
            status=status, status_detail="OutOfDisk: no space left", updated_at=timezone.now()
        )
    now = root.get(page(acme, "birth/status")).json()
    assert now == {
        "status": status,
        "reached": reached,
        "finished": finished,
        "failed": failed,
        "why": "OutOfDisk: no space left" if failed else "",
        "may_retry": failed,
    }


def test_a_failed_birth_can_be_tried_again(
    root: Console,
    acme: TenantState,
    sent: list[tuple[Any, ...]],
    django_capture_on_commit_callbacks: Callable[..., Any],
) -> None:
    with tenancy.in_platform():
        Tenant.objects.filter(slug="acme").update(status=TenantStatus.FAILED, status_detail="Boom: <b>no</b>")
    assert "Boom: &lt;b&gt;no&lt;/b&gt;" in root.text(page(acme, "birth/"))
    with django_capture_on_commit_callbacks(execute=True):
        root.post(page(acme, "birth/again"))
    tenant = stored("acme")
    assert (tenant.status, tenant.status_detail) == (TenantStatus.REQUESTED, "")
    assert sent == [(births.PROVISION, str(tenant.pk))]


def test_a_birth_that_nobody_is_at_can_be_tried_again_and_one_under_way_cannot(
    root: Console,
    acme: TenantState,
    sent: list[tuple[Any, ...]],
    django_capture_on_commit_callbacks: Callable[..., Any],
) -> None:
    with tenancy.in_platform():
        Tenant.objects.filter(slug="acme").update(status=TenantStatus.SCHEMA, updated_at=timezone.now())
    with django_capture_on_commit_callbacks(execute=True):
        root.post(page(acme, "birth/again"))
    assert sent == []
    with tenancy.in_platform():
        Tenant.objects.filter(slug="acme").update(updated_at=timezone.now() - timedelta(minutes=5))
    with django_capture_on_commit_callbacks(execute=True):
        root.post(page(acme, "birth/again"))
    assert len(sent) == 1


def test_suspending_asks_first(root: Console, acme: TenantState) -> None:
    root.text(page(acme, "suspend/"))
    assert stored("acme").status == TenantStatus.ACTIVE
    root.post(page(acme, "suspend/"))
    assert stored("acme").status == TenantStatus.SUSPENDED
    root.post(page(acme, "resume/"))
    assert stored("acme").status == TenantStatus.ACTIVE
    with tenancy.in_platform():
        assert list(LogEntry.objects.values_list("change_message", flat=True)) == ["Resumed.", "Suspended."]


def test_a_tenant_changes_name_and_tier_here_and_nothing_else(root: Console, acme: TenantState) -> None:
    typed = {"name": "Acme Ltd", "tier": "pro", "slug": "evil", "schema_name": "t_globex", "status": "failed"}
    root.post(page(acme, "change/"), **typed)
    tenant = stored("acme")
    assert (tenant.name, tenant.tier) == ("Acme Ltd", "pro")
    assert (tenant.schema_name, tenant.status) == ("t_acme", TenantStatus.ACTIVE)


def test_a_tenants_new_name_is_one_line(root: Console, acme: TenantState) -> None:
    answer = root.post(page(acme, "change/"), name="Acme\nBcc: x", tier="pro")
    assert "one line" in answer.content.decode()
    assert stored("acme").name == "Acme"


def test_a_tenant_cannot_be_deleted_here(root: Console, acme: TenantState) -> None:
    assert root.post(page(acme, "delete/"), post="yes").status_code == 403
    assert stored("acme")
