"""Signing in by an OpenID provider that others have written, over HTTP: it and our client agree on the protocol."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from http.cookiejar import CookieJar
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit
from urllib.request import HTTPCookieProcessor, build_opener

import pytest

from chatplatform import tenancy
from chatplatform.api.problem import Problem
from chatplatform.testing import oidc_toolkit
from chatplatform.testing.oidc_toolkit import Toolkit, running_toolkit
from tenants.models import MemberIdentity, SignInProvider
from tenants.selectors import TenantState
from tenants.services import key_sets, oidc, sign_in_providers
from tenants.tests.people import Desk, member, roles
from tenants.tests.test_providers import Stay
from tenants.vocabulary import MemberRole

pytestmark = [pytest.mark.processes, pytest.mark.usefixtures("everything_included")]


@pytest.fixture(scope="module")
def toolkit() -> Iterator[Toolkit]:
    with running_toolkit() as running:
        yield running


@pytest.fixture
def there(toolkit: Toolkit, settings: Any) -> Toolkit:
    """The provider, at an address that tests alone may use."""
    settings.ALLOW_PRIVATE_KEY_SERVERS = True
    oidc._kept.clear()
    oidc._failed.clear()
    key_sets.forget()
    return toolkit


def answer_of(provider: SignInProvider, tenant: TenantState) -> str:
    return f"http://{tenant.ref.slug}.localhost/console/with/{provider.pk}/answer"


def register(tenant: TenantState, there: Toolkit, **changes: Any) -> SignInProvider:
    values: dict[str, Any] = {"client_secret": there.client_secret, "admitted": "", **changes}
    return sign_in_providers.save(
        tenant.ref,
        name="Work",
        issuer=there.issuer,
        client_id=oidc_toolkit.CLIENT,
        role=MemberRole.ANALYST,
        asks_second_factor=False,
        **values,
    )


class Person:
    """Somebody with a browser that keeps cookies, at the provider."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cookies = CookieJar()
        self.opener = build_opener(Stay, HTTPCookieProcessor(self.cookies))

    def vouched_for(self, address: str) -> str:
        """Signs in, if asked to; where the provider sends the browser in the end."""
        here = urlsplit(address).netloc
        while urlsplit(address).netloc == here:
            form = self.credentials(address) if "/sign-in" in address else None
            with self.opener.open(address, form, timeout=10) as answer:
                assert answer.status == 302, answer.read().decode()
                address = urljoin(address, answer.headers["Location"])
        return address

    def credentials(self, address: str) -> bytes:
        """The form of the page there, filled in."""
        self.opener.open(address, timeout=10).close()
        [token] = [cookie.value for cookie in self.cookies if cookie.name == "csrftoken"]
        known = {"username": self.name, "password": oidc_toolkit.PASSWORD}
        return urlencode({**known, "csrfmiddlewaretoken": token}).encode()

    def goes_to(self, desk: Desk, provider: SignInProvider) -> Any:
        """From the tenant's page to the provider and back."""
        left = desk.get(f"with/{provider.pk}")
        assert left.status_code == 302, left.content.decode()
        back = urlsplit(self.vouched_for(left.headers["Location"]))
        assert back.netloc == f"{desk.tenant.ref.slug}.localhost"
        return desk.client.get(f"{back.path}?{back.query}")


def test_one_account_is_a_member_of_one_tenant(
    acme: TenantState, globex: TenantState, there: Toolkit
) -> None:
    at_acme, at_globex = register(acme, there), register(globex, there)
    there.allow(answer_of(at_acme, acme), answer_of(at_globex, globex))
    ada = Person("ada")
    member(acme, MemberRole.ADMIN, "ada@example.com", joined=False)
    desk = Desk(acme)
    assert ada.goes_to(desk, at_acme).headers["Location"] == "/console/"
    assert desk.is_in() and roles(acme) == {"ada@example.com": "admin"}
    with tenancy.in_platform():
        [bound] = MemberIdentity.objects.values_list("issuer", "subject", "membership__email")
    assert bound == (there.issuer, "1", "ada@example.com")

    assert ada.goes_to(again := Desk(acme), at_acme).status_code == 302 and again.is_in()
    for who, tenant, provider in (("bob", acme, at_acme), ("ada", globex, at_globex)):
        refused = Person(who).goes_to(desk := Desk(tenant), provider)
        assert refused.status_code == 401 and "stands for no member" in refused.content.decode()
        assert not desk.is_in()
    assert roles(globex) == {}


@pytest.mark.parametrize("wrong", ["state", "nonce", "verifier"])
def test_nothing_of_a_journey_can_be_exchanged(acme: TenantState, there: Toolkit, wrong: str) -> None:
    provider = register(acme, there)
    redirect = answer_of(provider, acme)
    there.allow(redirect)
    address, journey = oidc.begin(provider, redirect)
    answer = dict(parse_qsl(urlsplit(Person("ada").vouched_for(address)).query))
    other = replace(journey, **{wrong: "another" * 8})
    with pytest.raises(Problem):
        oidc.finish(provider, other, answer, redirect)
    if wrong != "nonce":  # so the code was not spent
        assert oidc.finish(provider, journey, answer, redirect).email == "ada@example.com"
    with pytest.raises(Problem):
        oidc.finish(provider, journey, answer, redirect)


def test_a_client_without_the_secret_gets_nobody(acme: TenantState, there: Toolkit) -> None:
    provider = register(acme, there, client_secret="a guess", admitted="@example.com")
    there.allow(answer_of(provider, acme))
    assert Person("ada").goes_to(Desk(acme), provider).status_code == 401
    assert roles(acme) == {}
