"""What is planted of a tenant's people, keys and configuration."""

from __future__ import annotations

from datetime import timedelta

from django.contrib.auth.hashers import make_password
from django.utils import timezone

from chatplatform.isolation import Planted, Who
from chatplatform.postgres.models import uuid7
from chatplatform.tenancy import in_platform
from tenants.auth import members as cookies
from tenants.isolation import ways_in
from tenants.models import Domain, MemberSession, Membership, Tenant, User
from tenants.services import (
    api_keys,
    configuration,
    member_links,
    member_sessions,
    members,
    token_issuers,
)
from tenants.services.member_links import Link
from tenants.vocabulary import MemberRole, Scope

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
    with in_platform():  # as it would be after a change of plan, whatever the plan of these two includes
        domain = Domain.objects.create(tenant_id=tenant.ref.id, domain=f"{tenant.canary}.example.com")
    tenant.ids["domain_id"] = str(domain.pk)
    _plant_members(tenant)


def _plant_keys(tenant: Planted, row: Tenant) -> None:
    scopes = [scope for scope in Scope if scope is not Scope.PLATFORM]
    for name in ("", "spare_", "other_spare_", "staffs_spare_", "staffs_other_spare_"):
        key, shown = api_keys.create(row, scopes, expires_in=SOON, name=f"{name}{tenant.canary}")
        tenant.ids |= {f"{name}key_id": key.public_id, f"{name}key": str(key.pk)}
        if not name:
            tenant.credentials[Who.KEY] = {"Authorization": f"Bearer {shown}"}


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
            who = Who.MEMBER if name == "owner" else Who.LEAVING_MEMBER
            token = member_sessions.start(one, agent="")
            tenant.credentials[who] = {"Cookie": f"{cookies.COOKIE}={token}"}
        if name == "owner":
            ways_in.plant(tenant, token)
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
    # The owner's is typed at the door, which shows what is typed: no canary.
    email = f"{name}@{tenant.ref.slug if name == 'owner' else tenant.canary}.invalid"
    one = members.invite(tenant.ref, email, role, by="check_isolation")
    with in_platform():
        if password:
            User.objects.filter(pk=one.user_id).update(password=password)
            Membership.objects.filter(pk=one.pk).update(joined_at=timezone.now())
        return Membership.objects.select_related("user", "tenant").get(pk=one.pk)
