"""How `check_isolation` walks tenants, their people, keys and configuration."""

from __future__ import annotations

from datetime import timedelta

from django.contrib.auth.hashers import make_password
from django.utils import timezone

from chatplatform.isolation import Call, Command, Elsewhere, Job, Planted, Walks, Who
from chatplatform.postgres.models import uuid7
from chatplatform.tenancy import in_platform
from tenants.auth import members as cookies
from tenants.models import MemberSession, Membership, Tenant, User
from tenants.services import (
    api_keys,
    configuration,
    domains,
    member_links,
    member_sessions,
    members,
    token_issuers,
)
from tenants.services.member_links import Link
from tenants.vocabulary import MemberRole, Scope

KEY, MEMBER, STAFF, NOBODY, PLATFORM = Who.KEY, Who.MEMBER, Who.STAFF, Who.NOBODY, Who.PLATFORM
PUBLIC_KEY = '{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}'
PASSWORD = uuid7().hex  # of this process's throw-away members
SOON = timedelta(hours=2)


def plant(tenant: Planted) -> None:
    """Keys, issuers, members with sessions and links, a domain and a configuration of its own; and spare ones, for
    what ends them."""
    with in_platform():
        row = Tenant.objects.get(pk=tenant.ref.id)
    tenant.ids |= {"slug": row.slug, "tenant_id": str(row.pk), "password": PASSWORD}
    configuration.change(
        tenant.ref,
        {"system_prompt": tenant.canary, "escalation_email": f"people@{tenant.canary}.invalid"},
        author="check_isolation",
        by_staff=True,
    )
    _plant_keys(tenant, row)
    for name in ("", "spare_", "staffs_spare_"):
        issuer = token_issuers.register(
            tenant.ref, f"{name}{tenant.canary}", f"https://{tenant.canary}.invalid", public_key=PUBLIC_KEY
        )
        tenant.ids[f"{name}issuer_id"] = str(issuer.pk)
    tenant.ids["domain_id"] = str(domains.add(tenant.ref, f"{tenant.canary}.example.com").pk)
    _plant_members(tenant)


def _plant_keys(tenant: Planted, row: Tenant) -> None:
    scopes = [scope for scope in Scope if scope is not Scope.PLATFORM]
    for name in ("", "spare_", "other_spare_", "staffs_spare_", "staffs_other_spare_"):
        key, shown = api_keys.create(row, scopes, expires_in=SOON, name=f"{name}{tenant.canary}")
        tenant.ids |= {f"{name}key_id": key.public_id, f"{name}key": str(key.pk)}
        if not name:
            tenant.credentials[KEY] = {"Authorization": f"Bearer {shown}"}


def _plant_members(tenant: Planted) -> None:
    password = make_password(PASSWORD)
    for name, role in (
        ("owner", MemberRole.OWNER),
        ("leaving", MemberRole.ADMIN),
        ("membership", MemberRole.VIEWER),
    ):
        one = _joined(tenant, name, role, password)
        tenant.ids[f"{name}_id"] = str(one.pk)
        if name != "membership":
            who = MEMBER if name == "owner" else Who.LEAVING_MEMBER
            tenant.credentials[who] = {"Cookie": f"{cookies.COOKIE}={member_sessions.start(one, agent='')}"}
        if name == "owner":
            member_sessions.start(one, agent=tenant.canary)
            with in_platform():
                other = MemberSession.objects.get(membership=one, agent=tenant.canary)
            tenant.ids |= {"session_id": str(other.pk), "email": one.email}
    for name, state in (("invited", Link.JOIN), ("forgetful", Link.RESET)):
        one = _joined(tenant, name, MemberRole.VIEWER, password if state is Link.RESET else None)
        with in_platform():
            tenant.ids |= {f"{name}_id": str(one.pk), f"{state}_token": member_links.make(state, one)}


def _joined(tenant: Planted, name: str, role: str, password: str | None) -> Membership:
    """A member, who has joined if there is a password."""
    email = f"{name}@{tenant.canary}.invalid"
    one = members.invite(tenant.ref, email, role, by="check_isolation")
    with in_platform():
        if password:
            User.objects.filter(pk=one.user_id).update(password=password)
            Membership.objects.filter(pk=one.pk).update(joined_at=timezone.now())
        return Membership.objects.select_related("user", "tenant").get(pk=one.pk)


ONE = "tenants/<slug:slug>"
A_KEY, AN_ISSUER = f"{ONE}/api-keys/<str:key_id>", f"{ONE}/token-issuers/<uuid:issuer_id>"
A_MEMBER, A_SESSION = "console/members/<uuid:membership_id>", "console/account/sessions/<uuid:session_id>"
ADMIN = "admin/tenants"
PAGE = f"{ADMIN}/tenant/<uuid:tenant_id>"
SEEN, OPEN = (Call(STAFF, shows=True),), (Call(NOBODY, open=True),)
DONE = (Call(STAFF, "POST", 302, {}),)
NEW_MEMBER = {"email": "new@{canary}.invalid", "role": "viewer"}
NEW_ISSUER = {"name": "new {canary}", "issuer": "https://new.{canary}.invalid", "public_key": PUBLIC_KEY}
PASSWORDS = {"password": "correct-horse-9", "again": "correct-horse-9"}

WALKS = Walks(
    plant,
    api={
        "tokens": (Call(KEY, "POST", 201, {"end_user": "{canary}"}),),
        "tenants": (Call(PLATFORM, "POST", 422, {"name": ""}),),
        ONE: (Call(KEY),),
        f"{ONE}/config": (
            Call(KEY, shows=True),
            Call(KEY, "PATCH", body={"system_prompt": "{canary} too"}, shows=True),
        ),
        f"{ONE}/token-issuers": (Call(KEY, shows=True), Call(KEY, "POST", 201, NEW_ISSUER)),
        AN_ISSUER: (Call(KEY, shows=True), Call(KEY, "DELETE", 204, ids={"issuer_id": "spare_issuer_id"})),
        f"{ONE}/api-keys": (Call(KEY, shows=True),),
        A_KEY: (Call(KEY, shows=True), Call(KEY, "DELETE", 204, ids={"key_id": "spare_key_id"})),
        f"{A_KEY}/rotate": (Call(KEY, "POST", 201, {}, ids={"key_id": "other_spare_key_id"}),),
    },
    pages={
        "session": (Call(NOBODY, "POST", 401, {"token": ""}, open=True),),
        "console": (Call(NOBODY, status=302, open=True),),
        "console/sign-in": (
            *OPEN,
            Call(NOBODY, "POST", 302, {"email": "{email}", "password": "{password}"}),
        ),
        "console/forgot": (*OPEN, Call(NOBODY, "POST", 302, {"email": "{email}"}, open=True)),
        "console/join": (
            Call(NOBODY, query="token={join_token}", shows=True),
            Call(NOBODY, "POST", 302, PASSWORDS, query="token={join_token}"),
        ),
        "console/reset": (
            Call(NOBODY, query="token={reset_token}", shows=True),
            Call(NOBODY, "POST", 302, PASSWORDS, query="token={reset_token}"),
        ),
        "console/members": (Call(MEMBER, shows=True),),
        "console/members/invite": (Call(MEMBER), Call(MEMBER, "POST", 302, NEW_MEMBER)),
        A_MEMBER: (Call(MEMBER, shows=True), Call(MEMBER, "POST", 302, {"role": "analyst"})),
        f"{A_MEMBER}/disable": (Call(MEMBER, "POST", 302, {}),),
        f"{A_MEMBER}/enable": (Call(MEMBER, "POST", 302, {}),),
        f"{A_MEMBER}/invite-again": (Call(MEMBER, "POST", 422, {}),),
        "console/account": (Call(MEMBER, shows=True),),
        f"{A_SESSION}/end": (Call(MEMBER, "POST", 302, {}),),
        "console/account/sessions/end-others": (Call(MEMBER, "POST", 302, {}),),
        "console/sign-out": (
            Call(MEMBER, status=302, open=True),
            Call(Who.LEAVING_MEMBER, "POST", 302, {}, open=True),
        ),
    },
    staff={
        f"{ADMIN}/auditentry/export/": (
            Call(STAFF, "POST", body={"format": "csv"}, query="tenant={tenant_id}"),
        ),
        f"{ADMIN}/tokenissuer/<path:object_id>/remove/": (
            Call(STAFF, "POST", 302, {}, ids={"object_id": "staffs_spare_issuer_id"}),
        ),
        f"{ADMIN}/apikey/<path:object_id>/rotate/": (
            Call(STAFF, "POST", body={}, shows=True, ids={"object_id": "staffs_spare_key"}),
        ),
        f"{ADMIN}/apikey/<path:object_id>/revoke/": (
            Call(STAFF, "POST", 302, {}, ids={"object_id": "staffs_other_spare_key"}),
        ),
        f"{ADMIN}/user/<id>/password/": (Call(STAFF, ids={"id": "staff"}),),
        f"{PAGE}/suspend/": DONE,
        f"{PAGE}/resume/": DONE,
        f"{PAGE}/birth/": (Call(STAFF),),
        f"{PAGE}/birth/status": (Call(STAFF),),
        f"{PAGE}/birth/again": DONE,
        f"{PAGE}/configuration/": SEEN,
        f"{PAGE}/configuration/edit/": SEEN,
        f"{PAGE}/configuration/compare/": SEEN,
        f"{PAGE}/domains/": SEEN,
        f"{PAGE}/domains/<uuid:domain_id>/remove/": DONE,
        f"{PAGE}/members/": SEEN,
        f"{PAGE}/members/<uuid:membership_id>/again/": DONE,
        f"{PAGE}/members/<uuid:membership_id>/disable/": DONE,
        f"{PAGE}/members/<uuid:membership_id>/enable/": DONE,
    },
    tasks={
        "tenants.provision_tenant": Job(("tenant_id",)),
        "tenants.pick_up_births": Job(),
        "tenants.anchor_audit_log": Job(),
        "tenants.expire_idempotency_records": Job(),
        "tenants.send_member_link": Job(("join", "invited_id")),
        "tenants.clear_deleted_keys": Job(),
        "tenants.expire_sign_ins": Job(),
    },
    commands={
        "provision_tenant": Elsewhere("The check begins with it."),
        "erase_tenant": Elsewhere("The check ends with it, and looks at what is left."),
        "suspend_tenant": Command(("{slug}",)),
        "resume_tenant": Command(("{slug}",)),
        "list_tenants": Command(everybody=True),
        "migrate_tenants": Elsewhere(
            "It migrates every tenant that is behind, as the owner, and reads no row."
        ),
        "create_api_key": Command(("{slug}", "--scope", "chat", "--expires-in", "1h")),
        "rotate_api_key": Command(("{rotated_key_id}",)),
        "revoke_api_key": Command(("{spare_key_id}",)),
        "invite_member": Command(("{slug}", "second@{canary}.invalid"), shows=True),
        "rotate_signing_keys": Elsewhere("It changes the platform's own keys and knows no tenant."),
        "verify_audit_log": Command(("{slug}",)),
    },
    keys=frozenset({"rate", "cache"}),
)
