"""The staff console: domains and API keys."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from chatplatform import tenancy
from tenants.models import Domain, Tenant
from tenants.selectors import TenantState
from tenants.services import api_keys
from tenants.tests.console import KEY, Console, page, person
from tenants.vocabulary import Scope


@pytest.fixture
def root(acme: TenantState) -> Console:
    """A superuser."""
    return Console(person("root", superuser=True))


# --- Domains ---------------------------------------------------------------------------------------------------


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
