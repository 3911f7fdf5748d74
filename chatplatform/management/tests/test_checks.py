"""`manage.py check_platform`: it sees what is wrong, and says what to do."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from chatplatform import tenancy
from chatplatform.management import checks, server_checks
from chatplatform.management.findings import Finding, Status
from chatplatform.testing.audit import written
from chatplatform.testing.commands import operate
from tenants import audit, keyring
from tenants.audit import anchors
from tenants.models import Tenant, TenantKey
from tenants.models.audit import PLATFORM
from tenants.selectors import TenantState
from tenants.services import api_keys
from tenants.vocabulary import AuditAction

NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture
def finding(acme: TenantState) -> object:
    """Runs one check by its name."""
    anchors.anchor()  # no beat does it here

    def run(name: str) -> Finding:
        with tenancy.in_platform():
            return next(check for check in checks.CHECKS if check.name == name).run()

    return run


@pytest.mark.parametrize("check", [check.name for check in checks.CHECKS if check.name != "worker"])
def test_all_is_well_here(finding, check: str) -> None:  # type: ignore[no-untyped-def]
    assert finding(check).status is Status.OK


def test_a_missing_worker_is_a_failure_with_a_hint(finding) -> None:  # type: ignore[no-untyped-def]
    found = finding("worker")
    assert found.status is Status.FAILED
    assert "celery" in found.hint


@pytest.mark.parametrize(
    ("setting", "check"),
    [("CACHE_URL", "cache"), ("EVENT_LOG_URL", "event log"), ("RATE_LIMIT_URL", "rate limits")],
)
def test_a_server_that_is_away_is_a_failure(finding, settings: Settings, setting: str, check: str) -> None:  # type: ignore[no-untyped-def]
    setattr(settings, setting, NOWHERE)
    assert finding(check).status is Status.FAILED


def test_an_audit_log_that_is_not_anchored_is_a_warning(finding, settings: Settings) -> None:  # type: ignore[no-untyped-def]
    audit.record(AuditAction.TENANT_CHANGED)
    written()
    assert finding("audit log").status is Status.OK
    settings.AUDIT_ANCHOR_EVERY = -1
    assert "beat" in finding("audit log").hint


def test_an_audit_log_with_another_secret_is_a_failure(finding, settings: Settings) -> None:  # type: ignore[no-untyped-def]
    audit.record(AuditAction.TENANT_CHANGED)
    written()
    settings.AUDIT_SECRET = "that of another process"
    assert finding("audit log").status is Status.FAILED


def test_another_master_key_is_a_failure(finding, settings: Settings) -> None:  # type: ignore[no-untyped-def]
    keyring.current_wrapping(PLATFORM)
    assert finding("master key").status is Status.OK
    settings.MASTER_KEY_AT, settings.MASTER_KEY = None, "that of another installation"
    assert finding("master key").status is Status.FAILED
    with tenancy.in_platform():
        TenantKey.objects.all().delete()
    assert "characters" in finding("master key").hint


def test_a_short_secret_is_a_failure(finding, settings: Settings) -> None:  # type: ignore[no-untyped-def]
    settings.SECRET_KEY = "secret"
    assert finding("secret key").status is Status.FAILED


def test_a_tenant_that_is_behind_is_named(finding) -> None:  # type: ignore[no-untyped-def]
    with tenancy.in_platform():
        Tenant.objects.filter(slug="acme").update(migrated_to="long ago")
    found = finding("tenants' migrations")
    assert (found.status, found.hint) == (Status.FAILED, "Run migrate_tenants.")
    assert "acme" in found.detail


def test_a_failed_birth_is_a_warning(finding) -> None:  # type: ignore[no-untyped-def]
    with tenancy.in_platform():
        Tenant.objects.filter(slug="acme").update(status="failed")
    assert finding("tenants' births").status is Status.WARNING


def test_a_platform_key_without_end_is_a_warning(finding) -> None:  # type: ignore[no-untyped-def]
    api_keys.create(None, ["platform"])
    assert finding("platform keys").status is Status.WARNING


def test_a_full_disk_is_a_warning(finding, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(checks, "LEAST_FREE", 1 << 60)
    assert finding("disk").status is Status.WARNING


@pytest.mark.parametrize(
    ("model", "hint"), [("text-embedding-of-nobody", "price"), ("text-embedding-3-small", "provider")]
)
def test_an_embedding_model_that_cannot_be_asked_is_a_failure(
    finding: Callable[[str], Finding], settings: Settings, model: str, hint: str
) -> None:
    settings.EMBEDDING_MODEL = model
    found = finding("embeddings")
    assert found.status is Status.FAILED and hint in found.hint


@pytest.mark.parametrize(("skew", "status"), [(0.1, Status.OK), (-2, Status.WARNING), (60, Status.FAILED)])
def test_clocks_are_compared(skew: float, status: Status, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatplatform.management.server_checks.time.time", lambda: 1000.0)
    assert server_checks._skew(lambda: 1000.0 + skew).status is status


def test_the_command_fails_when_a_check_does(acme: TenantState, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = checks.Check("moon", lambda: Finding(Status.FAILED, "gone", "Look up."))
    monkeypatch.setattr(checks, "CHECKS", (broken,))
    with pytest.raises(CommandError, match="Not well: moon"):
        call_command("check_platform", "--json")


@pytest.mark.processes
def test_it_prints_one_object_and_exits_with_1_while_no_worker_runs(django_db_setup: None) -> None:
    done = operate("check_platform", "--json")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert not document["ok"]
    assert [check["name"] for check in document["checks"] if check["status"] == "failed"] == ["worker"]
