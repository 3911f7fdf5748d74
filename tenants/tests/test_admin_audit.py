"""The audit log in the console: found, read, exported, and never changed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.utils import timezone

from chatplatform import tenancy
from chatplatform.testing.audit import written
from tenants import audit
from tenants.admin import audit as pages
from tenants.models import AuditEntry, User
from tenants.selectors import TenantState
from tenants.services import lifecycle
from tenants.tests.console import Console, person
from tenants.vocabulary import AuditAction

LIST = "tenants/auditentry/"


@pytest.fixture
def root(acme: TenantState, globex: TenantState) -> Console:
    """A superuser, and some entries: of a platform's, of two tenants."""
    boss = person("root", superuser=True)
    lifecycle.suspend("acme")
    lifecycle.suspend("globex")
    audit.record(AuditAction.KEY_REVOKED, "k3y", tenant=globex.ref.id, scopes=["chat"])
    written()
    return Console(boss)


def shown(root: Console, **query: Any) -> list[tuple[str, str]]:
    """What the list shows, newest first: action and object."""
    written()
    found = root.get(LIST, **query).context["cl"].result_list
    return [(entry.action, entry.object_id) for entry in found]


def test_it_is_found_by_tenant_action_person_object_and_time(
    root: Console, acme: TenantState, globex: TenantState
) -> None:
    at_globex = [("key.revoked", "k3y"), ("tenant.suspended", str(globex.ref.id))]
    assert shown(root, tenant=str(globex.ref.id))[:2] == at_globex
    both = [("tenant.suspended", str(globex.ref.id)), ("tenant.suspended", str(acme.ref.id))]
    assert shown(root, action="tenant.suspended") == both
    assert shown(root, kind="key", object="k3y") == at_globex[:1]
    assert shown(root, actor="contact") == []


@pytest.mark.filterwarnings("error:.*received a naive datetime")
def test_it_is_found_by_time(root: Console, acme: TenantState, globex: TenantState) -> None:
    suspended = {"action": "tenant.suspended"}
    today = f"{timezone.now():%Y-%m-%d}"
    long = {"at_from_0": "2020-01-01", "at_from_1": "08:00", "at_to_0": "2999-01-02", "at_to_1": "00:00"}
    assert len(shown(root, **suspended, **long)) == 2
    assert shown(root, **suspended, **(long | {"at_from_0": "2999-01-01"})) == []
    assert len(shown(root, **suspended, at_from_0=today, at_to_0=today)) == 2, "all of a day"
    assert shown(root, **suspended, at_to_0="2020-01-01") == []
    assert len(shown(root, **suspended, at_from_0="soon", at_to_1="noon")) == 2, (
        "what is no time narrows nothing"
    )


def test_it_is_searched_by_a_persons_name_an_address_or_any_id(root: Console, acme: TenantState) -> None:
    grace = person("grace", "tenants.view_tenant", "tenants.change_tenant")
    answer = Console(grace).post(f"tenants/tenant/{acme.ref.id}/resume/")
    resumed = ("tenant.resumed", str(acme.ref.id))
    for q in ("GRACE", str(grace.pk), answer.headers["X-Request-ID"], "127.0.0.1", str(acme.ref.id)):
        assert resumed in shown(root, q=q), q
    assert shown(root, q="nobody") == []
    assert shown(root, q="203.0.113.7") == []


def test_it_names_people_and_tenants_as_they_are_now(root: Console, acme: TenantState) -> None:
    grace = person("grace", "tenants.change_tenant")
    Console(grace).post(f"tenants/tenant/{acme.ref.id}/resume/")
    with tenancy.in_platform():
        User.objects.filter(pk=grace.pk).update(username="hopper")
    written()
    html = root.text(LIST, action="tenant.resumed")
    assert "hopper" in html and "acme" in html and "grace" not in html
    assert "Resumed a tenant" in html


def test_an_entry_of_an_erased_tenant_stays(root: Console) -> None:
    gone = uuid4()
    audit.record(AuditAction.TENANT_ERASED, gone, tenant=gone, slug="gone")
    written()
    assert f"erased ({gone})" in root.text(LIST, tenant=str(gone))


def test_an_entry_can_be_read_and_not_changed(root: Console) -> None:
    with tenancy.in_platform():
        entry = AuditEntry.objects.filter(object_id="k3y").get()
    html = root.text(f"{LIST}{entry.pk}/change/")
    assert entry.hash in html and "Revoked an API key" in html
    assert root.post(f"{LIST}{entry.pk}/change/", action="x").status_code == 403
    assert root.post(f"{LIST}{entry.pk}/delete/", post="yes").status_code == 403
    assert root.get(f"{LIST}add/").status_code == 403


@pytest.mark.parametrize("permission", ["tenants.view_tenant", "tenants.change_user"])
def test_it_takes_its_own_permission(root: Console, permission: str) -> None:
    clerk = Console(person("clerk", permission))
    assert clerk.get(LIST).status_code == 403
    assert clerk.post(f"{LIST}export/", format="csv").status_code == 403
    auditor = Console(person("auditor", "tenants.view_auditentry"))
    assert "k3y" in auditor.text(LIST)
    assert "Audit log" in auditor.text("")


def test_an_objects_own_history_still_tells_of_it(root: Console, acme: TenantState) -> None:
    root.post(f"tenants/tenant/{acme.ref.id}/resume/")
    assert "Resumed." in root.text(f"tenants/tenant/{acme.ref.id}/history/")
    with tenancy.in_platform():
        assert LogEntry.objects.count() == 1
    assert [one[0] for one in written()[-1:]] == ["tenant.resumed"], "recorded once"


# --- Export ----------------------------------------------------------------------------------------------------
@pytest.fixture
def exporter(committed: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Console]:
    """A superuser outside a test's transaction, as an export runs in threads of its own; three rows at a time."""
    monkeypatch.setattr(pages, "CHUNK", 3)
    boss = person("exporter", superuser=True)
    yield Console(boss)
    with tenancy.in_platform():
        boss.delete()


def exported(console: Console, format: str, **query: str) -> str:
    path = f"/admin/{LIST}export/?" + "&".join(f"{name}={value}" for name, value in query.items())
    answer = console.client.post(path, {"format": format})
    assert answer.status_code == 200
    return b"".join(answer).decode()


@pytest.mark.filterwarnings(
    "ignore:StreamingHttpResponse must consume"
)  # Django's client is not asynchronous
def test_it_is_exported_as_it_is_listed_and_that_is_recorded(exporter: Console) -> None:
    chain = uuid4()
    for number in range(7):
        audit.record(AuditAction.KEY_REVOKED, f"={number}", tenant=chain, note='ü, and "so on"')
    lines = [json.loads(line) for line in exported(exporter, "jsonl", tenant=str(chain)).splitlines()]
    assert [line["sequence"] for line in lines] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert lines[7]["action"] == "audit.exported", "of itself, too"
    assert lines[0]["data"] == {"note": 'ü, and "so on"'} and lines[0]["hash"] == lines[1]["previous"]
    rows = list(csv.DictReader(io.StringIO(exported(exporter, "csv", tenant=str(chain), q="Jane"))))
    assert rows == []
    action, _, data = written(chain=chain)[-1]
    assert action == "audit.exported"
    assert data == {"format": "csv", "asked": {"tenant": str(chain), "q": audit.digest("Jane")}}
    table = list(csv.DictReader(io.StringIO(exported(exporter, "csv", tenant=str(chain), kind="key"))))
    assert [row["object_id"] for row in table] == [f"'={number}" for number in range(7)]


def test_only_the_two_formats_and_only_by_post(root: Console) -> None:
    assert root.get(f"{LIST}export/").status_code == 405
    assert root.post(f"{LIST}export/", format="pdf").status_code == 400
