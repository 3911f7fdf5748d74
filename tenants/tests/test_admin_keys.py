"""The staff console: domains and API keys."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from chatplatform import tenancy
from chatplatform.testing.backend import pair
from tenants import selectors
from tenants.models import Domain, SigningKey, Tenant
from tenants.selectors import TenantState
from tenants.services import api_keys, signing_keys, token_issuers
from tenants.tests.console import KEY, Console, page, person
from tenants.vocabulary import Scope


@pytest.fixture
def root(acme: TenantState) -> Console:
    """A superuser."""
    return Console(person("root", superuser=True))


# --- Domains ---------------------------------------------------------------------------------------------------


def test_a_plan_without_own_domains_adds_none_and_takes_none_away(root: Console, acme: TenantState) -> None:
    with tenancy.in_platform():
        Domain.objects.create(tenant_id=acme.ref.id, domain="old.acme.example")
    answer = root.post(page(acme, "domains/"), domain="chat.acme.example")
    assert "plan does not include own domains" in answer.content.decode()
    assert selectors.hosts_of(acme) == {"acme.localhost", "old.acme.example"}
    assert selectors.tenant_id_for_host("old.acme.example") == acme.ref.id


@pytest.mark.usefixtures("everything_included")
def test_a_domain_is_added_and_removed(root: Console, acme: TenantState) -> None:
    root.post(page(acme, "domains/"), domain="chat.acme.example")
    with tenancy.in_platform():
        domain = Domain.objects.get(domain="chat.acme.example")
    assert domain.tenant_id == acme.ref.id
    remove = page(acme, f"domains/{domain.pk}/remove/")
    assert "Remove chat.acme.example?" in root.text(remove)
    root.post(remove)
    with tenancy.in_platform():
        assert not Domain.objects.filter(pk=domain.pk).exists()


@pytest.mark.usefixtures("everything_included")
@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("https://chat.acme.example", "without https://"),
        ("chat.acme.example/path", "without a path"),
        ("chat.acme.example:8000", "without a port"),
        ("*.acme.example", "wildcard"),
        ("Chat.acme.example", "Lower-case"),
        ("acme", "such as chat.example.com"),
        ("chat_.acme.example", "such as chat.example.com"),
        ("-a.example", "such as chat.example.com"),
        ("127.0.0.1", "not an address"),
        ("[::1]", "not an address"),
        ("localhost", "platform"),
        ("globex.localhost", "platform"),
        ("a.b.localhost", "platform"),
        ("taken.example", "belongs to a tenant"),
        ("x" * 64 + ".example", "such as chat.example.com"),
    ],
)
def test_what_cannot_be_a_domain_is_refused_with_the_reason(
    root: Console, acme: TenantState, globex: TenantState, host: str, said: str
) -> None:
    with tenancy.in_platform():
        Domain.objects.create(tenant_id=globex.ref.id, domain="taken.example")
        before = Domain.objects.count()
    answer = root.post(page(acme, "domains/"), domain=host)
    assert said in str(answer.context["form"].errors["domain"])
    with tenancy.in_platform():
        assert Domain.objects.count() == before


def test_a_domain_is_removed_by_its_own_tenants_page_alone(
    root: Console, acme: TenantState, globex: TenantState
) -> None:
    with tenancy.in_platform():
        domain = Domain.objects.create(tenant_id=globex.ref.id, domain="taken.example")
    assert root.post(page(acme, f"domains/{domain.pk}/remove/")).status_code == 404


# --- Keys ------------------------------------------------------------------------------------------------------


def test_a_key_is_shown_once_and_never_again(root: Console, acme: TenantState) -> None:
    typed = {"name": "backend", "tenant": str(acme.ref.id), "scopes": ["chat", "config"], "expires_in": "30d"}
    shown = KEY.search(root.post("tenants/apikey/add/", **typed).content.decode())
    assert shown
    key = api_keys.check(shown[0])
    assert (key.tenant_id, key.scopes) == (acme.ref.id, ["chat", "config"])
    assert key.expires_at and timedelta(29) < key.expires_at - timezone.now() <= timedelta(30)
    for path in ("tenants/apikey/", f"tenants/apikey/{key.pk}/change/", f"tenants/apikey/{key.pk}/history/"):
        html = root.text(path)
        assert not KEY.search(html)
        assert bytes(key.secret_hash).hex() not in html


def test_a_key_cannot_be_changed_or_deleted(root: Console, acme: TenantState) -> None:
    key, _ = api_keys.create(None, [Scope.PLATFORM], name="ops")
    assert root.post(f"tenants/apikey/{key.pk}/change/", name="mine").status_code == 403
    assert root.post(f"tenants/apikey/{key.pk}/delete/", post="yes").status_code == 403


def test_revoking_asks_first_and_then_the_key_is_refused(root: Console, acme: TenantState) -> None:
    with tenancy.in_platform():
        key, _ = api_keys.create(Tenant.objects.get(slug="acme"), [Scope.CHAT], name="old")
    assert "Revoke old?" in root.text(f"tenants/apikey/{key.pk}/revoke/")
    assert api_keys.is_usable(key.public_id)
    root.post(f"tenants/apikey/{key.pk}/revoke/")
    assert not api_keys.is_usable(key.public_id)
    assert root.get(f"tenants/apikey/{key.pk}/revoke/").status_code == 403


@pytest.mark.parametrize(
    ("superuser", "typed", "made"),
    [
        (True, {"tenant": "", "scopes": ["platform"]}, True),
        (True, {"tenant": "", "scopes": ["chat"]}, False),
        (True, {"tenant": "acme", "scopes": ["platform"]}, False),
        (True, {"tenant": "acme", "scopes": []}, False),
        (False, {"tenant": "", "scopes": ["platform"]}, False),
        (False, {"tenant": "acme", "scopes": ["chat"]}, True),
    ],
)
def test_platform_keys_are_made_by_superusers_on_purpose(
    acme: TenantState, superuser: bool, typed: dict[str, Any], made: bool
) -> None:
    user = person("maker", "tenants.view_apikey", "tenants.add_apikey", superuser=superuser)
    tenant = str(acme.ref.id) if typed["tenant"] else ""
    html = (
        Console(user).post("tenants/apikey/add/", **{**typed, "tenant": tenant, "name": "k"}).content.decode()
    )
    assert bool(KEY.search(html)) is made


def test_seeing_domains_does_not_mean_adding_or_removing_them(acme: TenantState) -> None:
    seer = Console(person("seer", "tenants.view_tenant"))
    with tenancy.in_platform():
        domain = Domain.objects.create(tenant_id=acme.ref.id, domain="chat.acme.example")
    html = seer.text(page(acme, "domains/"))
    assert "chat.acme.example" in html
    assert "Remove" not in html
    assert "Add a host name" not in html
    assert seer.post(page(acme, "domains/"), domain="more.acme.example").status_code == 403
    assert seer.post(page(acme, f"domains/{domain.pk}/remove/")).status_code == 403


def test_a_key_is_replaced_and_the_new_one_shown_once(root: Console, acme: TenantState) -> None:
    with tenancy.in_platform():
        key, shown = api_keys.create(Tenant.objects.get(slug="acme"), [Scope.CHAT], name="old")
    assert "Replace old?" in root.text(f"tenants/apikey/{key.pk}/rotate/")
    assert api_keys.check(shown).expires_at is None
    found = KEY.search(root.post(f"tenants/apikey/{key.pk}/rotate/").content.decode())
    assert found
    assert api_keys.check(found[0]).scopes == [Scope.CHAT]
    expires_at = api_keys.check(shown).expires_at
    assert expires_at and timedelta(hours=23) < expires_at - timezone.now() <= timedelta(hours=24)
    api_keys.revoke(key.public_id)
    assert root.post(f"tenants/apikey/{key.pk}/rotate/").status_code == 403


def test_replacing_needs_what_making_one_needs(acme: TenantState) -> None:
    seer = Console(person("seer", "tenants.view_apikey"))
    maker = Console(person("maker", "tenants.view_apikey", "tenants.add_apikey"))
    with tenancy.in_platform():
        own, _ = api_keys.create(Tenant.objects.get(slug="acme"), [Scope.CHAT])
    platform, _ = api_keys.create(None, [Scope.PLATFORM])
    assert seer.post(f"tenants/apikey/{own.pk}/rotate/").status_code == 403
    assert maker.post(f"tenants/apikey/{platform.pk}/rotate/").status_code == 403
    assert maker.post(f"tenants/apikey/{own.pk}/rotate/").status_code == 200


# --- Who signs tokens ------------------------------------------------------------------------------------------


def test_an_issuer_is_registered_and_removed(root: Console, acme: TenantState) -> None:
    typed = {"tenant": str(acme.ref.id), "name": "shop", "issuer": "https://shop.example"}
    answer = root.post("tenants/tokenissuer/add/", **typed, public_key=pair("ES256").pem)
    assert answer.status_code == 302, answer.content
    (row,) = token_issuers.of_tenant(acme.ref.id)
    assert row.issuer == "https://shop.example"
    assert "shop" in root.text("tenants/tokenissuer/")
    assert "https://shop.example" in root.text(f"tenants/tokenissuer/{row.id}/change/")
    assert "Remove shop?" in root.text(f"tenants/tokenissuer/{row.id}/remove/")
    root.post(f"tenants/tokenissuer/{row.id}/remove/")
    assert token_issuers.of_tenant(acme.ref.id) == ()


def test_what_makes_no_issuer_is_said_at_its_field(root: Console, acme: TenantState) -> None:
    typed = {"tenant": str(acme.ref.id), "name": "shop", "issuer": "https://shop.example"}
    for wrong, field in (
        ({"public_key": "x"}, "public_key"),
        ({"jwks_url": "https://127.0.0.1/"}, "jwks_url"),
    ):
        answer = root.post("tenants/tokenissuer/add/", **typed, **wrong)
        assert list(answer.context["form"].errors) == [field]
    assert list(root.post("tenants/tokenissuer/add/", **typed).context["form"].errors) == ["jwks_url"]


def test_seeing_issuers_does_not_mean_adding_or_removing_them(acme: TenantState) -> None:
    row = token_issuers.register(acme.ref, "shop", "https://shop.example", public_key=pair("ES256").pem)
    seer = Console(person("seer", "tenants.view_tokenissuer"))
    assert "shop" in seer.text("tenants/tokenissuer/")
    assert seer.get("tenants/tokenissuer/add/").status_code == 403
    assert seer.post(f"tenants/tokenissuer/{row.pk}/remove/").status_code == 403


def test_the_platforms_keys_are_shown_without_their_secrets(root: Console, acme: TenantState) -> None:
    signing_keys.forget()
    kid = signing_keys.signer().kid
    with tenancy.in_platform():
        key = SigningKey.objects.get(kid=kid)
    for path in ("tenants/signingkey/", f"tenants/signingkey/{key.pk}/change/"):
        html = root.text(path)
        assert kid in html
        assert "PRIVATE" not in html
        assert key.private_pem[40:80] not in html
    assert root.post(f"tenants/signingkey/{key.pk}/change/").status_code == 403
    signing_keys.forget()
