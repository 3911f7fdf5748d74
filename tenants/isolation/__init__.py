"""How `check_isolation` walks tenants, their people, keys and configuration."""

from __future__ import annotations

from chatplatform.isolation import Call, Command, Elsewhere, Job, Walks, Who
from tenants.isolation import ways_in
from tenants.isolation.planting import PUBLIC_KEY, plant

KEY, MEMBER, STAFF, NOBODY, PLATFORM = Who.KEY, Who.MEMBER, Who.STAFF, Who.NOBODY, Who.PLATFORM
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
        **ways_in.PAGES,
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
        **ways_in.STAFFS,
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
        "verify_certificate": Command(("{certificate}",)),
        "rotate_keys": Command(("--tenant", "{slug}")),
        "reset_second_factor": Command(("{leaving_staff}",)),
    },
    keys=frozenset({"rate", "cache"}),
)
