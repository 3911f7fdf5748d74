"""What is recorded, by whom, and when: each word of the vocabulary by what really happens."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast
from uuid import uuid4

import pytest
from celery import shared_task
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission
from django.db import connection, transaction

from chatplatform import tenancy
from chatplatform.api.problem import Problem
from chatplatform.jobs import PlatformTask
from chatplatform.postgres import migrations
from chatplatform.testing.audit import written
from chatplatform.testing.commands import result_of
from tenants import audit
from tenants.audit import keys, looks
from tenants.models import ApiKey, Tenant, TokenIssuer, User
from tenants.models.audit import PLATFORM
from tenants.selectors import TenantState
from tenants.services import (
    api_keys,
    births,
    configuration,
    domains,
    key_rotation,
    lifecycle,
    member_links,
    members,
    migration,
    profile,
    provisioning,
    second_factors,
    sign_in_providers,
    signing_keys,
    token_issuers,
)
from tenants.services.member_links import Link
from tenants.tests import ways_in
from tenants.tests.console import PASSWORD, Console, page, person
from tenants.tests.people import Desk, member
from tenants.vocabulary import AuditAction as Action
from tenants.vocabulary import Scope, TenantStatus, Tier


def tenant(acme: TenantState) -> Tenant:
    with tenancy.in_platform():
        return Tenant.objects.get(id=acme.ref.id)


def fail_a_birth(acme: TenantState) -> None:
    provisioning._reach(tenant(acme), TenantStatus.FAILED, "no room")


def retry_a_birth(acme: TenantState) -> None:
    fail_a_birth(acme)
    births.start_again(acme.ref.id)


def erase(acme: TenantState, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "chatplatform.postgres.roles.drop_schema", lambda schema: None
    )  # outside the transaction
    monkeypatch.setattr(provisioning, "alone", lambda tenant: nullcontext())
    lifecycle.erase("acme")


def revoke(acme: TenantState) -> None:
    api_keys.revoke(api_keys.create(tenant(acme), [Scope.CHAT])[0].public_id)


def migrate(acme: TenantState, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "migrate_schema", lambda ref: None)
    migration.bring_up_to_date(tenant(acme))


def remove_a_domain(acme: TenantState) -> None:
    domains.remove(acme.ref, domains.add(acme.ref, "chat.acme.example").id)


def ingest(*documents: str) -> None:
    """One after the other, each in the place of the one before."""
    with TemporaryDirectory() as folder:
        for name in documents:
            file = Path(folder) / name
            file.write_text("# Dogs\n\nDogs are welcome.")
            result_of("ingest_knowledge", "acme", str(file), "--remove-missing")


def register_an_issuer(acme: TenantState) -> TokenIssuer:
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return token_issuers.register(acme.ref, "backend", "https://acme.example", public_key=pem.decode())


def in_platform(work: Callable[[], Any]) -> None:
    with tenancy.in_platform():
        work()


def in_console(flag: int) -> None:
    user = person(f"clerk{flag}", superuser=True)
    with tenancy.in_platform():
        some = Permission.objects.all()[:1]
        said = [{"changed": {"fields": ["Name"]}}]
        LogEntry.objects.log_actions(user.pk, some, flag, said, single_object=True)


def sign_in(password: str = PASSWORD) -> Console:
    person("root", superuser=True)
    console = Console()
    console.post("login/", username="root", password=password)
    return console


def follow(acme: TenantState, kind: Link) -> None:
    somebody = member(acme, joined=kind is Link.RESET)
    with tenancy.in_platform():
        token = member_links.make(kind, somebody)
    members.follow_link(kind, acme.ref, token, PASSWORD)


def look(path: str = "") -> None:
    Console(person("looker", "conversations.view_conversation")).get(f"conversations/acme/{path}")


DOING: dict[Action, Callable[[TenantState, pytest.MonkeyPatch], Any]] = {
    Action.TENANT_REQUESTED: lambda acme, _: provisioning.request_tenant("Initech", "initech"),
    Action.TENANT_RETRIED: lambda acme, _: retry_a_birth(acme),
    Action.TENANT_PROVISIONED: lambda acme, _: provisioning._reach(tenant(acme), TenantStatus.ACTIVE),
    Action.TENANT_FAILED: lambda acme, _: fail_a_birth(acme),
    Action.TENANT_CHANGED: lambda acme, _: profile.change(acme.ref, name="Acme Ltd", tier=Tier.PRO),
    Action.TENANT_SUSPENDED: lambda acme, _: lifecycle.suspend("acme"),
    Action.TENANT_RESUMED: lambda acme, _: (lifecycle.suspend("acme"), lifecycle.resume("acme")),
    Action.TENANT_MIGRATED: migrate,
    Action.TENANT_ERASED: erase,
    Action.CONFIGURATION_CHANGED: lambda acme, _: configuration.change(
        acme.ref, {"greeting": "Hi"}, author="a", by_staff=True
    ),
    Action.DOMAIN_ADDED: lambda acme, _: domains.add(acme.ref, "chat.acme.example"),
    Action.DOMAIN_REMOVED: lambda acme, _: remove_a_domain(acme),
    Action.KEY_CREATED: lambda acme, _: api_keys.create(tenant(acme), [Scope.CHAT]),
    Action.KEY_REPLACED: lambda acme, _: api_keys.rotate(
        api_keys.create(tenant(acme), [Scope.CHAT])[0].public_id, timedelta(days=1)
    ),
    Action.SIGNING_KEYS_ROTATED: lambda acme, _: signing_keys.rotate(compromised=True),
    Action.MASTER_KEY_ROTATED: lambda acme, _: key_rotation.rotate_master(print),
    Action.DATA_KEYS_ROTATED: lambda acme, _: key_rotation.rotate_tenant(acme.ref, print),
    Action.ISSUER_REGISTERED: lambda acme, _: register_an_issuer(acme),
    Action.ISSUER_REMOVED: lambda acme, _: token_issuers.remove(acme.ref, register_an_issuer(acme).id),
    Action.KEY_REVOKED: lambda acme, _: revoke(acme),
    Action.STAFF_SIGNED_IN: lambda acme, _: sign_in(),
    Action.STAFF_SIGN_IN_FAILED: lambda acme, _: sign_in("wrong"),
    Action.STAFF_SIGNED_OUT: lambda acme, _: sign_in().post("logout/"),
    Action.STAFF_ADDED: lambda acme, _: person("grace"),
    Action.STAFF_CHANGED: lambda acme, _: person("grace", "tenants.view_tenant"),
    Action.STAFF_REMOVED: lambda acme, _: in_platform(person("grace").delete),
    Action.GROUP_ADDED: lambda acme, _: in_platform(lambda: Group.objects.create(name="Support")),
    Action.GROUP_CHANGED: lambda acme, _: in_platform(
        lambda: Group.objects.create(name="Support").permissions.set(Permission.objects.all()[:1])
    ),
    Action.GROUP_REMOVED: lambda acme, _: in_platform(lambda: Group.objects.create(name="Support").delete()),
    Action.MEMBER_INVITED: lambda acme, _: member(acme, joined=False),
    Action.MEMBER_JOINED: lambda acme, _: follow(acme, Link.JOIN),
    Action.MEMBER_ROLE_CHANGED: lambda acme, _: members.change_role(member(acme, "admin"), "viewer"),
    Action.MEMBER_DISABLED: lambda acme, _: members.disable(member(acme, "viewer")),
    Action.MEMBER_ENABLED: lambda acme, _: members.enable(member(acme)),
    Action.MEMBER_PASSWORD_CHANGED: lambda acme, _: follow(acme, Link.RESET),
    Action.STAFF_FACTOR_ADDED: lambda acme, _: ways_in.prove(None),
    Action.STAFF_FACTOR_REMOVED: lambda acme, _: ways_in.remove_factor(None),
    Action.STAFF_FACTORS_RESET: lambda acme, _: second_factors.reset(ways_in.holder(None)),
    Action.STAFF_CODES_MADE: lambda acme, _: second_factors.new_codes(ways_in.holder(None)),
    Action.STAFF_PROVED: lambda acme, _: ways_in.prove(None),
    Action.STAFF_PROOF_FAILED: lambda acme, _: ways_in.prove(None),
    Action.MEMBER_FACTOR_ADDED: lambda acme, _: ways_in.prove(acme),
    Action.MEMBER_FACTOR_REMOVED: lambda acme, _: ways_in.remove_factor(acme),
    Action.MEMBER_FACTORS_RESET: lambda acme, _: members.reset_factors(member(acme)),
    Action.MEMBER_CODES_MADE: lambda acme, _: second_factors.new_codes(ways_in.holder(acme)),
    Action.MEMBER_PROVED: lambda acme, _: ways_in.prove(acme),
    Action.MEMBER_PROOF_FAILED: lambda acme, _: ways_in.prove(acme),
    Action.MEMBER_LINKED: ways_in.link,
    Action.MEMBER_UNLINKED: ways_in.link,
    Action.SECOND_FACTOR_NEEDED: lambda acme, _: sign_in_providers.need_second_factor(acme.ref, True),
    Action.PROVIDER_ADDED: ways_in.provider,
    Action.PROVIDER_CHANGED: ways_in.provider,
    Action.PROVIDER_REMOVED: lambda acme, patch: sign_in_providers.remove(ways_in.provider(acme, patch)),
    Action.MEMBER_SIGNED_IN: lambda acme, _: Desk(acme).sign_in(member(acme).email),
    Action.MEMBER_SIGN_IN_FAILED: lambda acme, _: Desk(acme).sign_in(member(acme).email, "wrong"),
    Action.MEMBER_SIGNED_OUT: lambda acme, _: Desk(acme, member(acme)).post("sign-out"),
    Action.CONVERSATIONS_LISTED: lambda acme, _: look(),
    Action.CONVERSATIONS_SEARCHED: lambda acme, _: look("?q=Jane"),
    Action.CONVERSATION_READ: lambda acme, _: look(f"{uuid4()}/"),
    Action.DOCUMENT_INGESTED: lambda acme, _: ingest("dogs.md"),
    Action.DOCUMENT_REMOVED: lambda acme, _: ingest("dogs.md", "cats.md"),
    Action.CONSOLE_ADDED: lambda acme, _: in_console(1),
    Action.CONSOLE_CHANGED: lambda acme, _: in_console(2),
    Action.CONSOLE_REMOVED: lambda acme, _: in_console(3),
    Action.AUDIT_EXPORTED: lambda acme, _: Console(person("root", superuser=True)).post(
        "tenants/auditentry/export/", format="csv"
    ),
}


# Shown where they happen: in billing/tests, test_audit.py for the most part.
ELSEWHERE = {
    Action.CONVERSATIONS_EXPIRED,  # conversations/tests/test_retention.py
    Action.TENANT_EXPORTED,  # conversations/tests/test_archives.py
    Action.TENANT_IMPORTED,
    Action.CONTACT_EXPORTED,
    Action.CONTACT_ERASED,  # conversations/tests/test_erasure.py
    Action.HOLDS_RETURNED,
    Action.INVOICE_CREDITED,
    Action.INVOICE_ISSUED,
    Action.INVOICE_PAID,
    Action.INVOICE_READ,
    Action.PLAN_CHOSEN,
    Action.PLAN_SAVED,
    Action.PRICES_UPDATED,
    Action.PRICE_RESET,
    Action.PRICE_SET,
    Action.SPENDING_READ,
}


@pytest.mark.usefixtures("everything_included")
@pytest.mark.parametrize("action", [action for action in Action if action not in ELSEWHERE])
def test_each_action_is_recorded_when_it_happens(
    action: Action, acme: TenantState, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len(written())
    DOING[action](acme, monkeypatch)
    assert action in [one[0] for one in written()[before:]]


# --- Who and where ---------------------------------------------------------------------------------------------
def test_a_tenants_affairs_are_in_its_chain_and_other_affairs_in_the_platforms(acme: TenantState) -> None:
    platform, own = len(written(chain=PLATFORM)), len(written(chain=acme.ref.id))
    lifecycle.suspend("acme")
    person("grace")
    assert [one[0] for one in written(chain=acme.ref.id)[own:]] == ["tenant.suspended"]
    assert [one[0] for one in written(chain=PLATFORM)[platform:]] == ["staff.added"]


def test_a_tenants_console_names_the_member_in_the_tenants_own_chain(acme: TenantState) -> None:
    owner, other = member(acme), member(acme, "viewer")
    platform = len(written(chain=PLATFORM))
    Desk(acme, owner).post(f"members/{other.pk}", role="admin")
    shown = written("action", "actor_kind", "actor_id", "object_id", "data", chain=acme.ref.id)[-1]
    said = {"roles": ["viewer", "admin"]}
    assert shown == ("member.role_changed", "member", str(owner.pk), str(other.pk), said)
    assert len(written(chain=PLATFORM)) == platform  # nor is a member's account one of staff
    assert "example.com" not in str(written("data"))


def test_the_console_names_the_person_the_request_and_the_address(acme: TenantState) -> None:
    root = person("root", superuser=True)
    answer = Console(root).post(page(acme, "suspend/"))
    shown = written("action", "actor_kind", "actor_id", "request", "address", chain=acme.ref.id)[-1]
    where = keys.short_hash("127.0.0.1")
    assert shown == ("tenant.suspended", "staff", str(root.pk), answer.headers["X-Request-ID"], where)


def test_a_command_names_the_account_that_ran_it(acme: TenantState, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "ops-jane")
    result_of("suspend_tenant", "acme")
    assert written("action", "actor_kind", "actor_id")[-1] == ("tenant.suspended", "operator", "ops-jane")


def test_a_job_names_itself_and_the_request_that_asked_for_it(db: None) -> None:
    @shared_task(name="tests.audited", base=PlatformTask)
    def job() -> None:
        audit.record(Action.TENANT_FAILED, "x")

    job(request="req-1")
    assert written("actor_kind", "actor_id", "request")[-1] == ("system", "tests.audited", "req-1")


def test_a_failed_sign_in_names_the_account_that_was_meant_but_not_what_was_typed(acme: TenantState) -> None:
    root = person("root", superuser=True)
    console = Console()
    console.post("login/", username="root", password="wrong")
    console.post("login/", username="hunter2", password="wrong")
    meant, unknown = written("object_id", "data", kinds=["staff"])[-2:]
    assert meant[0] == str(root.pk) and unknown[0] == ""
    assert unknown[1] == {"typed": {"hash": keys.short_hash("hunter2"), "length": 7}}


# --- What is in it ---------------------------------------------------------------------------------------------
def test_a_configuration_is_recorded_field_by_field_and_its_texts_as_digests(acme: TenantState) -> None:
    changes = {
        "system_prompt": "The secret sauce is mustard.",
        "escalation_email": "jane@acme.example",
        "temperature": 0.3,
        "allowed_models": ["local"],
    }
    version = configuration.change(acme.ref, changes, author="a", by_staff=True)
    [(number, data)] = written("object_id", "data", chain=acme.ref.id, kinds=["configuration"])[-1:]
    assert number == str(version.number)
    shown = data["changes"]
    assert shown["temperature"] == [None, "0.3"]
    assert shown["allowed_models"] == [None, ["local"]]
    assert shown["system_prompt"][1] == audit.digest("The secret sauce is mustard.")
    assert "mustard" not in str(data) and "jane" not in str(data)


def test_nothing_personal_of_an_account_is_recorded_but_its_powers_are(db: None) -> None:
    with tenancy.in_platform():
        grace = User.objects.create(username="grace", email="grace@example.org", password="x")
        grace.first_name, grace.is_superuser = "Grace", True
        grace.save()
        group = Group.objects.create(name="Support")
        group.permissions.add(Permission.objects.get(codename="view_tenant"))
        cast(Any, group).user_set.add(grace)  # the other side of `grace.groups`
        group.permissions.clear()
    shown = [one[2] for one in written(kinds=["staff", "group"])[-6:]]
    assert shown[1] == {"fields": ["first_name", "is_superuser"], "is_superuser": [False, True]}
    assert shown[3] == {"given": ["tenants.view_tenant"]}
    assert shown[4] == {"given": [f"group {group.pk}"]}
    assert shown[5] == {"taken": ["tenants.view_tenant"]}
    assert "race" not in str(shown)


def test_signing_in_does_not_count_as_a_change_of_the_account(acme: TenantState) -> None:
    sign_in()
    assert [one[0] for one in written(kinds=["staff"])[-2:]] == ["staff.added", "staff.signed_in"]


@pytest.mark.usefixtures("everything_included")
def test_what_changes_nothing_is_not_recorded(acme: TenantState) -> None:
    before = len(written())
    lifecycle.resume("acme")
    profile.change(acme.ref, name="Acme", tier=Tier(acme.tier))
    configuration.change(acme.ref, {}, author="a", by_staff=True)
    with pytest.raises(Problem):
        domains.add(acme.ref, "127.0.0.1")
    assert len(written()) == before


@pytest.mark.parametrize("wrong", [0.5, b"bytes", object(), {"deep": [1.5]}])
def test_data_that_the_database_would_change_is_refused(db: None, wrong: Any) -> None:
    with pytest.raises(TypeError, match="audit log"):
        audit.record(Action.TENANT_FAILED, wrong=wrong)


def test_only_words_of_the_vocabulary_are_recorded(db: None) -> None:
    with pytest.raises(ValueError, match="nonsense"):
        audit.record("tenant.nonsense")  # type: ignore[arg-type]


# --- With the transaction ---------------------------------------------------------------------------------------
def test_what_is_rolled_back_is_not_recorded(acme: TenantState) -> None:
    before = len(written())
    with tenancy.in_platform(), pytest.raises(ZeroDivisionError), transaction.atomic():
        api_keys.create(None, [Scope.PLATFORM])
        raise ZeroDivisionError
    assert len(written()) == before
    with tenancy.in_platform():
        assert connection.in_atomic_block and not ApiKey.objects.filter(tenant=None, name="").exists()


# --- The console ------------------------------------------------------------------------------------------------
def test_no_page_deletes_many_rows_at_once() -> None:
    """Django notes those without a signal, so the audit log would miss them."""
    for model, one in admin.site._registry.items():
        assert not one.actions, model


# --- Looks from before ------------------------------------------------------------------------------------------
def test_looks_from_before_the_log_are_moved_into_it(acme: TenantState) -> None:
    root, conversation = person("root", superuser=True), uuid4()
    rows = [
        ("list", "/admin/conversations/acme/", "2025-01-02T00:00:00Z"),
        ("search", "/admin/conversations/acme/?q=Jane", "2025-01-03T00:00:00Z"),
        ("read", f"/admin/conversations/acme/{conversation}/?before=1", "2025-01-04T00:00:00Z"),
    ]
    with tenancy.in_platform(), connection.cursor() as cursor:
        for action, path, at in reversed(rows):
            cursor.execute(
                "INSERT INTO tenants_stafflook (id, user_id, tenant_id, action, path, at) "
                "VALUES (gen_random_uuid(), %s, %s, %s, %s, %s)",
                [root.pk, acme.ref.id, action, path, at],
            )
    assert looks.adopt() == 3
    assert looks.adopt() == 0
    moved = written("action", "object_id", "actor_id", chain=acme.ref.id, kinds=["conversation"])[:3]
    assert moved == [
        ("conversation.listed", "", str(root.pk)),
        ("conversation.searched", "", str(root.pk)),
        ("conversation.read", str(conversation), str(root.pk)),
    ]
