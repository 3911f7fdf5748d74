"""The ops commands that look after tenants and keys (CONTRACT §3)."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from django.utils import timezone

from chatplatform import tenancy
from chatplatform.api.problem import Problem
from chatplatform.postgres import migrations, roles
from chatplatform.testing.commands import operate, result_of, text_of
from tenants.audit import certificates
from tenants.models import ApiKey, ConfigurationVersion, Tenant
from tenants.selectors import TenantState
from tenants.services import api_keys, lifecycle
from tenants.vocabulary import Scope, TenantStatus


@pytest.fixture
def real_database(committed: None) -> Iterator[None]:
    """Outside a test's transaction: for what makes schemas and roles. Erases the tenant `umbrella` afterwards."""
    yield
    with tenancy.in_platform():
        born = Tenant.objects.filter(slug="umbrella").exists()
    if born:
        lifecycle.erase("umbrella")


def status_of(slug: str) -> str:
    with tenancy.in_platform():
        return Tenant.objects.values_list("status", flat=True).get(slug=slug)


class Terminal(io.StringIO):
    """A stdin at which a person sits."""

    def isatty(self) -> bool:
        return True


# --- provision_tenant ------------------------------------------------------------------------------------------


@pytest.mark.processes
def test_provision_tenant_makes_a_tenant_whose_key_works(real_database: None) -> None:
    done = operate(
        "provision_tenant", "umbrella", "--domain", "Chat.Umbrella.example", "--tier", "pro", "--json"
    )
    assert done.returncode == 0, done.stderr
    born = json.loads(done.stdout)
    assert {"tenant": "umbrella", "status": "active"}.items() <= born.items()
    assert born["url"].startswith("http://umbrella.localhost")
    assert api_keys.check(born["api_key"]).scopes == [Scope.CHAT]
    with tenancy.in_platform():
        tenant = Tenant.objects.get(slug="umbrella")
        assert (tenant.name, tenant.tier) == ("Umbrella", "pro")
        assert [domain.domain for domain in tenant.domains.all()] == ["chat.umbrella.example"]


def test_provision_tenant_prints_json_for_people_too(real_database: None) -> None:
    assert json.loads(text_of("provision_tenant", "umbrella"))["status"] == "active"


@pytest.mark.processes
def test_a_slug_that_is_taken_is_exit_1_and_changes_nothing(real_database: None) -> None:
    with tenancy.in_platform():
        before = list(ApiKey.objects.values_list("id", flat=True)), Tenant.objects.get(slug="acme")
    done = operate("provision_tenant", "acme", "--name", "Other")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"Error: .+\n", done.stderr)
    with tenancy.in_platform():
        now = Tenant.objects.get(slug="acme")
        assert (list(ApiKey.objects.values_list("id", flat=True)), now.name) == (before[0], before[1].name)


@pytest.mark.parametrize("slug", ["Acme Inc", "-a", "a" * 41, "admin", "a\n"])
def test_a_slug_that_cannot_be_is_refused(acme: TenantState, slug: str) -> None:
    with pytest.raises(CommandError) as refusal:
        result_of("provision_tenant", f"--name={slug}", "--", slug)
    assert refusal.value.returncode == 1


def test_a_tenants_name_is_one_line(acme: TenantState) -> None:
    with pytest.raises(CommandError, match="one line"):
        result_of("provision_tenant", "umbrella", "--name=Umbrella\nBcc: x")


@pytest.mark.parametrize(
    "arguments", [["umbrella", "--domain", "https://x.example"], ["umbrella", "--tier", "gold"], []]
)
def test_wrong_usage_of_provision_tenant_is_an_error(arguments: list[str]) -> None:
    with pytest.raises(CommandError):
        result_of("provision_tenant", *arguments)


# --- suspend, resume, erase ------------------------------------------------------------------------------------


def test_a_tenant_is_suspended_and_resumed(acme: TenantState, globex: TenantState) -> None:
    assert result_of("suspend_tenant", "acme") == {"tenant": "acme", "status": "suspended"}
    assert (status_of("acme"), status_of("globex")) == ("suspended", "active")
    assert result_of("resume_tenant", "acme") == {"tenant": "acme", "status": "active"}
    assert status_of("acme") == "active"


@pytest.mark.parametrize(
    "arguments",
    [("suspend_tenant",), ("resume_tenant",), ("erase_tenant", "--yes"), ("create_api_key", "--scope=chat")],
)
def test_a_tenant_that_is_not_there_is_one_clear_line(acme: TenantState, arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError, match=r"^There is no such tenant\.$") as refusal:
        result_of(*arguments, "umbrella")
    assert refusal.value.returncode == 1


def test_erase_tenant_leaves_nothing(real_database: None) -> None:
    key = result_of("provision_tenant", "umbrella")["api_key"]
    result = result_of("erase_tenant", "umbrella", "--yes")
    assert (result["tenant"], result["status"]) == ("umbrella", "erased")
    assert certificates.is_genuine(result["certificate"]) and result["certificate"]["slug"] == "umbrella"
    with pytest.raises(Problem):
        api_keys.check(key)
    with tenancy.in_platform():
        assert not Tenant.objects.filter(slug="umbrella").exists()
        assert not ConfigurationVersion.objects.filter(tenant__slug="umbrella").exists()
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT nspname FROM pg_namespace UNION SELECT rolname FROM pg_roles")
            assert not [name for (name,) in cursor.fetchall() if "umbrella" in name]


def test_erase_tenant_asks_a_person_and_takes_no_for_an_answer(
    acme: TenantState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("no\n"))
    with pytest.raises(CommandError, match="Nothing was deleted"):
        result_of("erase_tenant", "acme")
    assert status_of("acme") == "active"


# --- API keys --------------------------------------------------------------------------------------------------


def test_a_key_has_what_was_asked_for(acme: TenantState) -> None:
    made = result_of(
        "create_api_key", "acme", "--scope", "chat", "billing:read", "--expires-in", "90d", "--name", "CRM"
    )
    assert set(made) == {"id", "api_key", "scopes", "expires_at"}
    key = api_keys.check(made["api_key"])
    assert (key.public_id, key.name, key.scopes) == (made["id"], "CRM", ["chat", "billing:read"])
    assert key.tenant is not None and key.tenant.slug == "acme"
    assert key.expires_at is not None
    assert abs(key.expires_at - timezone.now() - timedelta(days=90)) < timedelta(minutes=1)


def test_a_platform_key_belongs_to_no_tenant(acme: TenantState) -> None:
    made = result_of("create_api_key", "--platform", "--scope", "platform")
    assert made["expires_at"] is None
    assert api_keys.check(made["api_key"]).tenant is None


@pytest.mark.parametrize("scopes", [["chat"], ["config", "billing:read"]])
def test_a_platform_key_needs_the_scope_platform(acme: TenantState, scopes: list[str]) -> None:
    with pytest.raises(CommandError, match="platform") as refusal:
        result_of("create_api_key", "--platform", "--scope", *scopes)
    assert refusal.value.returncode == 1


def test_a_keys_name_is_one_line(acme: TenantState) -> None:
    with pytest.raises(CommandError, match="one line"):
        result_of("create_api_key", "acme", "--scope=chat", "--name=CRM\nBcc: x")


def test_a_tenants_key_cannot_be_a_platform_key(acme: TenantState) -> None:
    with pytest.raises(CommandError, match="platform"):
        result_of("create_api_key", "acme", "--scope", "platform")


@pytest.mark.parametrize("owner", [[], ["acme", "--platform"]])
def test_a_key_has_exactly_one_owner(acme: TenantState, owner: list[str]) -> None:
    with pytest.raises(CommandError) as refusal:
        result_of("create_api_key", *owner, "--scope=chat")
    assert refusal.value.returncode == 2


@pytest.mark.parametrize("wrong", [["--scope=all"], ["--scope=chat", "--expires-in=soon"], []])
def test_wrong_usage_of_create_api_key_is_an_error(acme: TenantState, wrong: list[str]) -> None:
    with pytest.raises(CommandError):
        result_of("create_api_key", "acme", *wrong)


def test_a_key_is_replaced_and_goes_on_for_a_while(acme: TenantState) -> None:
    made = result_of("create_api_key", "acme", "--scope=chat", "--expires-in=90d")
    new = result_of("rotate_api_key", made["id"], "--overlap=2h")
    assert set(new) == {"id", "api_key", "scopes", "expires_at", "replaces"}
    assert new["replaces"]["id"] == made["id"]
    left = datetime.fromisoformat(new["replaces"]["expires_at"]) - timezone.now()
    assert timedelta(hours=1, minutes=59) < left <= timedelta(hours=2)
    assert [api_keys.check(one["api_key"]).scopes for one in (made, new)] == [["chat"], ["chat"]]
    at_once = result_of("rotate_api_key", new["id"], "--overlap=0s")
    with pytest.raises(Problem):
        api_keys.check(new["api_key"])
    assert api_keys.check(at_once["api_key"])


def test_a_key_that_cannot_be_replaced_is_one_clear_line(acme: TenantState) -> None:
    with pytest.raises(CommandError, match=r"^There is no such api key\.$"):
        result_of("rotate_api_key", "nosuchkey123")
    made = result_of("create_api_key", "acme", "--scope=chat")
    result_of("revoke_api_key", made["id"])
    with pytest.raises(CommandError, match="revoked or expired") as refusal:
        result_of("rotate_api_key", made["id"])
    assert refusal.value.returncode == 1


def test_a_revoked_key_is_refused_and_revoking_again_changes_nothing(acme: TenantState) -> None:
    made = result_of("create_api_key", "acme", "--scope=chat")
    api_keys.check(made["api_key"])
    revoked = result_of("revoke_api_key", made["id"])
    assert (revoked["id"], revoked["tenant"]) == (made["id"], "acme")
    with pytest.raises(Problem):
        api_keys.check(made["api_key"])
    assert result_of("revoke_api_key", made["id"]) == revoked


def test_a_key_that_is_not_there_is_one_clear_line(acme: TenantState) -> None:
    with pytest.raises(CommandError, match=r"^There is no such api key\.$"):
        result_of("revoke_api_key", "nosuchkey000")


# --- list_tenants ----------------------------------------------------------------------------------------------


def test_list_tenants_shows_all_in_order(acme: TenantState, globex: TenantState) -> None:
    with tenancy.in_platform():
        Tenant.objects.filter(slug="globex").update(migrated_to="long ago")
    rows = result_of("list_tenants")["tenants"]
    assert [(row["slug"], row["status"], row["migrated"]) for row in rows] == [
        ("acme", "active", True),
        ("globex", "active", False),
    ]
    lines = text_of("list_tenants").splitlines()
    assert [line.split()[0] for line in lines] == ["SLUG", "acme", "globex"]


# --- migrate_tenants -------------------------------------------------------------------------------------------


@pytest.fixture
def both_behind(real_database: None) -> Iterator[None]:
    """Acme and Globex look as if they missed the newest migrations."""
    with tenancy.in_platform():
        Tenant.objects.update(migrated_to="")
    yield
    with tenancy.in_platform():
        Tenant.objects.update(migrated_to=migrations.wanted_state())


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Slugs of tenants whose migration fails."""
    slugs: set[str] = set()
    real = migrations.migrate_schema

    def migrate(tenant: tenancy.TenantRef) -> None:
        if tenant.slug in slugs:
            raise RuntimeError("the disk is full")
        real(tenant)

    monkeypatch.setattr(migrations, "migrate_schema", migrate)
    return slugs


def test_only_what_is_behind_is_migrated(both_behind: None) -> None:
    with tenancy.in_platform():
        Tenant.objects.filter(slug="acme").update(migrated_to=migrations.wanted_state())
    assert result_of("migrate_tenants") == {"migrated": ["globex"], "failed": [], "skipped": []}
    assert result_of("migrate_tenants") == {"migrated": [], "failed": [], "skipped": []}
    assert text_of("migrate_tenants") == "Everything is up to date.\n"


def test_canaries_go_first(both_behind: None) -> None:
    assert result_of("migrate_tenants", "--canary", "globex")["migrated"] == ["globex", "acme"]


def test_a_tenant_that_fails_does_not_stop_the_others(both_behind: None, broken: set[str]) -> None:
    broken.add("acme")
    with pytest.raises(CommandError, match="acme"):
        result_of("migrate_tenants")
    broken.clear()
    # Only what failed is left: the command goes on where it stopped.
    assert result_of("migrate_tenants")["migrated"] == ["acme"]


def test_a_canary_that_fails_stops_the_rest(both_behind: None, broken: set[str]) -> None:
    broken.add("globex")
    stdout = io.StringIO()
    with pytest.raises(CommandError, match="globex"):
        call_command("migrate_tenants", "--json", "--canary", "globex", stdout=stdout, stderr=io.StringIO())
    result = json.loads(stdout.getvalue())
    assert (result["migrated"], result["skipped"]) == ([], ["acme"])
    assert result["failed"] == [{"tenant": "globex", "error": "the disk is full"}]


def test_a_canary_that_is_not_there_is_an_error(both_behind: None) -> None:
    with pytest.raises(CommandError, match="no tenant 'umbrella'"):
        result_of("migrate_tenants", "--canary", "umbrella")
    assert result_of("migrate_tenants")["migrated"] == ["acme", "globex"]


def test_a_tenant_that_is_being_born_is_left_to_its_birth(real_database: None) -> None:
    result_of("provision_tenant", "umbrella")
    with tenancy.in_platform():
        Tenant.objects.filter(slug="umbrella").update(status=TenantStatus.REQUESTED, migrated_to="")
    assert result_of("migrate_tenants")["migrated"] == []


def test_migrating_really_makes_the_tables(real_database: None) -> None:
    result_of("provision_tenant", "umbrella")
    roles.drop_schema("t_umbrella")
    roles.create_schema("t_umbrella")
    with tenancy.in_platform():
        Tenant.objects.filter(slug="umbrella").update(migrated_to="")
    assert result_of("migrate_tenants")["migrated"] == ["umbrella"]
    with tenancy.in_platform():
        umbrella = Tenant.objects.get(slug="umbrella")
    with tenancy.in_tenant(umbrella.ref), connections["default"].cursor() as cursor:
        cursor.execute("SELECT count(*) FROM t_umbrella.tenants_contact")
        assert cursor.fetchone() == (0,)


# --- what all commands share -----------------------------------------------------------------------------------


@pytest.mark.processes
@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["provision_tenant", "--help"], 0),
        (["provision_tenant"], 2),
        (["create_api_key", "acme", "--scope", "chat", "--platform"], 2),
        (["suspend_tenant", "umbrella"], 1),
    ],
)
def test_exit_statuses(real_database: None, arguments: list[str], status: int) -> None:
    done = operate(*arguments)
    assert done.returncode == status
    assert bool(done.stdout) == (status == 0)
    assert "Traceback" not in done.stderr
