"""Signing in by OpenID providers: against a stand-in that answers over HTTP, and signs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit
from urllib.request import HTTPErrorProcessor, build_opener

import pytest
from django.utils import timezone

from chatplatform import tenancy
from chatplatform.api.problem import Code, Problem
from chatplatform.testing import cast
from chatplatform.testing.audit import written
from chatplatform.testing.backend import pair
from chatplatform.testing.oidc_standin import OidcStandIn, running_provider
from tenants.models import MemberIdentity, MemberSession, Membership, SignInProvider
from tenants.selectors import TenantState
from tenants.services import key_sets, oidc, sign_in_providers
from tenants.tests.console import Console, page, person
from tenants.tests.people import Desk, member, roles
from tenants.tests.test_second_factors import add_app, need_second_factor
from tenants.vocabulary import MemberRole, Tier

pytestmark = pytest.mark.usefixtures("everything_included")


@pytest.fixture(scope="module")
def server() -> Iterator[OidcStandIn]:
    with running_provider() as running:
        yield running


@pytest.fixture
def there(server: OidcStandIn, settings: Any) -> OidcStandIn:
    """The provider as it is at first, at an address that tests alone may use."""
    settings.ALLOW_PRIVATE_KEY_SERVERS = True
    oidc._kept.clear()
    oidc._failed.clear()
    key_sets.forget()
    issuer = server.issuer
    server.__init__()  # type: ignore[misc]
    server.issuer = issuer
    return server


def register(tenant: TenantState, there: OidcStandIn, **changes: Any) -> SignInProvider:
    values = {
        "name": "Acme SSO",
        "issuer": there.issuer,
        "client_id": there.client_id,
        "client_secret": there.client_secret,
        "admitted": "",
        "role": MemberRole.ANALYST,
        "asks_second_factor": False,
        **changes,
    }
    provider = sign_in_providers.save(tenant.ref, **values)
    there.redirect_uris.add(f"http://{tenant.ref.slug}.localhost/console/with/{provider.pk}/answer")
    return provider


class Stay(HTTPErrorProcessor):
    """Redirects are looked at, not followed."""

    def http_response(self, request: Any, response: Any) -> Any:
        return response


def visit(address: str) -> str:
    """Where the provider sends a browser back to: path and query."""
    with build_opener(Stay).open(address) as answer:
        assert answer.status == 302, answer.read()
        back = urlsplit(answer.headers["Location"])
    return f"{back.path}?{back.query}"


def go(desk: Desk, provider: SignInProvider, path: str = "with/{}", **query: Any) -> Any:
    """To the provider and back."""
    left = desk.get(path.format(provider.pk), **query)
    assert left.status_code == 302, left.content.decode()
    return desk.client.get(visit(left.headers["Location"]))


def ada_of(tenant: TenantState) -> Membership:
    with tenancy.in_platform():
        return Membership.objects.get(tenant_id=tenant.ref.id, email="ada@example.com")


# --- Who may join --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("basic", [True, False])
def test_who_was_invited_joins_and_signs_in(acme: TenantState, there: OidcStandIn, basic: bool) -> None:
    there.basic = basic
    provider = register(acme, there)
    member(acme, MemberRole.ADMIN, "ada@example.com", joined=False)
    desk = Desk(acme)
    assert "Sign in with Acme SSO" in desk.text("sign-in")
    assert go(desk, provider, next="/console/usage").headers["Location"] == "/console/usage"
    assert desk.is_in()
    assert roles(acme) == {"ada@example.com": "admin"}
    there.person = {"sub": "u-17", "email": "other@example.com"}  # the subject counts from now on
    assert go(Desk(acme), provider).headers["Location"] == "/console/"
    said = [
        action for (action,) in written("action", chain=acme.ref.id) if action.startswith(("member", "sign"))
    ]
    assert said == [
        "sign_in_provider.added",
        "member.invited",
        "member.joined",
        "member.linked",
        "member.signed_in",
        "member.signed_in",
    ]


@pytest.mark.parametrize("admitted", ["@example.com", " ADA@example.com\n\nbob@example.com "])
def test_who_is_on_the_list_joins_with_its_role(acme: TenantState, there: OidcStandIn, admitted: str) -> None:
    provider = register(acme, there, admitted=admitted)
    assert go(Desk(acme), provider).status_code == 302
    assert roles(acme) == {"ada@example.com": "analyst"}


@pytest.mark.parametrize(
    "person",
    [
        {"sub": "1", "email": "eve@evil.example", "email_verified": True},
        {"sub": "1", "email": "ada@sub.example.com", "email_verified": True},
        {"sub": "1", "email": "ada@example.com@evil.example", "email_verified": True},
        {"sub": "1", "email": "ada@example.com", "email_verified": False},
        {"sub": "1", "email": "ada@example.com", "email_verified": "false"},
        {"sub": "1", "email": "ada@example.com"},
        {"sub": "1"},
    ],
)
def test_nobody_else_joins(acme: TenantState, there: OidcStandIn, person: dict[str, Any]) -> None:
    provider = register(acme, there, admitted="@example.com")
    there.person = person
    answer = go(Desk(acme), provider)
    assert answer.status_code == 401 and "stands for no member" in answer.content.decode()
    assert roles(acme) == {}


def test_an_address_does_not_make_anybody_a_member_who_has_joined(
    acme: TenantState, there: OidcStandIn
) -> None:
    member(acme, email="ada@example.com")
    provider = register(acme, there, admitted="@example.com")
    assert go(Desk(acme), provider).status_code == 401


def test_an_old_invitation_is_none(acme: TenantState, there: OidcStandIn) -> None:
    ada = member(acme, email="ada@example.com", joined=False)
    provider = register(acme, there)
    with tenancy.in_platform():
        Membership.objects.filter(pk=ada.pk).update(invited_at=timezone.now() - timedelta(days=8))
    assert go(Desk(acme), provider).status_code == 401


def test_who_was_shut_out_stays_out(acme: TenantState, there: OidcStandIn) -> None:
    provider = register(acme, there, admitted="@example.com")
    desk = Desk(acme)
    go(desk, provider)
    Desk(acme, member(acme)).post(f"members/{ada_of(acme).pk}/disable")
    assert not desk.is_in()
    assert go(desk, provider).status_code == 401


def test_the_same_account_is_nobody_at_another_tenant(
    acme: TenantState, globex: TenantState, there: OidcStandIn
) -> None:
    ours, theirs = register(acme, there, admitted="@example.com"), register(globex, there)
    member(globex, email="ada@example.com")
    assert go(Desk(acme), ours).status_code == 302
    assert go(Desk(globex), theirs).status_code == 401
    assert Desk(globex).get(f"with/{ours.pk}").status_code == 404
    started = Desk(acme).get(f"with/{ours.pk}")
    other = Desk(globex)
    other.client.cookies.update(started.cookies)
    back = urlsplit(visit(started.headers["Location"]))
    assert other.client.get(f"/console/with/{theirs.pk}/answer?{back.query}").status_code == 401


def test_another_issuer_with_the_same_subject_is_another_person(
    acme: TenantState, there: OidcStandIn
) -> None:
    first = register(acme, there, admitted="@example.com")
    go(Desk(acme), first)
    with running_provider() as second_server:
        second_server.person = {"sub": "u-17"}
        second = register(acme, second_server, name="Another")
        assert go(Desk(acme), second).status_code == 401


# --- Accounts that are linked --------------------------------------------------------------------------------------
def test_a_member_links_an_account_and_signs_in_with_it(acme: TenantState, there: OidcStandIn) -> None:
    provider = register(acme, there)
    desk = Desk(acme, member(acme))
    html = go(desk, provider, "account/with/{}").content.decode()
    assert "ada@example.com" in html
    person = html.split('name="person" value="')[1].split('"')[0]
    another = Desk(acme, member(acme, MemberRole.ADMIN))
    another.post(f"account/with/{provider.pk}/link", person=person)
    assert go(Desk(acme), provider).status_code == 401, "to be asked is not to be linked"
    desk.post(f"account/with/{provider.pk}/link", person=person)
    assert "lets you in" in desk.text("account")
    assert go(Desk(acme), provider).status_code == 302
    desk.post(f"account/with/{provider.pk}/unlink")
    assert go(Desk(acme), provider).status_code == 401


def test_an_account_stands_for_one_member(acme: TenantState, there: OidcStandIn) -> None:
    provider = register(acme, there, admitted="@example.com")
    go(Desk(acme), provider)
    desk = Desk(acme, member(acme))
    person = (
        go(desk, provider, "account/with/{}").content.decode().split('name="person" value="')[1].split('"')[0]
    )
    answer = desk.post(f"account/with/{provider.pk}/link", person=person)
    assert answer.headers["Location"] == "/console/account?done=not-linked"


def test_linking_needs_a_recent_proof(acme: TenantState, there: OidcStandIn) -> None:
    provider = register(acme, there)
    desk = Desk(acme, member(acme))
    with tenancy.in_platform():
        MemberSession.objects.update(created_at=timezone.now() - timedelta(hours=1))
    assert desk.get(f"account/with/{provider.pk}").headers["Location"].startswith("/console/sign-in?next=")


# --- The protocol --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "twist",
    [
        {"iss": "https://evil.example"},
        {"aud": "another"},
        {"aud": ["console", "another"]},
        {"azp": "another"},
        {"exp": 1},
        {"nonce": "another"},
        {"nonce": None},
        {"sub": None},
        {"sub": ""},
        {"sub": 17},
    ],
    ids=str,
)
def test_an_id_token_that_is_not_for_this_sign_in_is_refused(
    acme: TenantState, there: OidcStandIn, twist: dict[str, Any]
) -> None:
    provider = register(acme, there, admitted="@example.com")
    there.twist = lambda claims: claims.update(twist)
    answer = go(Desk(acme), provider)
    assert answer.status_code == 401 and "not as it has to be" in answer.content.decode()
    assert roles(acme) == {}


def test_an_id_token_that_another_key_has_signed_is_refused(acme: TenantState, there: OidcStandIn) -> None:
    provider = register(acme, there, admitted="@example.com")
    assert go(Desk(acme), provider).status_code == 302  # its keys are known now
    jwks, there.key = there.key, pair("RS256", "two")
    there.key = type(jwks)(jwks.algorithm, jwks.kid, pair("RS256", "two").secret)
    assert go(Desk(acme), provider).status_code == 401


@pytest.mark.parametrize("wrong", ["state", "iss", "code", "none", "error"])
def test_an_answer_that_was_not_asked_for_is_refused(
    acme: TenantState, there: OidcStandIn, wrong: str
) -> None:
    provider = register(acme, there, admitted="@example.com")
    desk = Desk(acme)
    path, _, query = visit(desk.get(f"with/{provider.pk}").headers["Location"]).partition("?")
    answer = dict(parse_qsl(query))
    if wrong in answer:
        answer[wrong] = "https://evil.example" if wrong == "iss" else "x"
    if wrong == "none":
        del answer["iss"]  # the provider says of itself that it names itself
    if wrong == "error":
        answer = {"error": "access_denied", "state": answer["state"], "iss": answer["iss"]}
    assert desk.client.get(f"{path}?{urlencode(answer)}").status_code == 401
    assert roles(acme) == {}


def test_an_answer_in_another_browser_or_for_the_second_time_is_refused(
    acme: TenantState, there: OidcStandIn
) -> None:
    provider = register(acme, there, admitted="@example.com")
    desk = Desk(acme)
    back = visit(desk.get(f"with/{provider.pk}").headers["Location"])
    assert Desk(acme).client.get(back).status_code == 401
    assert desk.client.get(back).status_code == 302
    assert desk.client.get(back).status_code == 401


def test_the_secret_and_the_verifier_are_what_the_provider_asks_for(
    acme: TenantState, there: OidcStandIn
) -> None:
    provider = register(acme, there, admitted="@example.com", client_secret="wrong")
    assert go(Desk(acme), provider).status_code == 401
    register_again = {"name": "Acme SSO", "client_secret": there.client_secret, "provider": provider}
    register(acme, there, admitted="@example.com", **register_again)
    desk = Desk(acme)
    back = visit(desk.get(f"with/{provider.pk}").headers["Location"])
    for asked in there.codes.values():
        asked["code_challenge"] = "x" * 43
    assert desk.client.get(back).status_code == 401
    assert go(desk, provider).status_code == 302


def test_a_provider_that_is_away_is_said_to_be(acme: TenantState, there: OidcStandIn) -> None:
    provider = register(acme, there)
    oidc._kept.clear()
    there.document = {"issuer": "https://another.example"}
    assert "cannot be reached" in Desk(acme).get(f"with/{provider.pk}").content.decode()
    asked = len(there.asked)
    Desk(acme).get(f"with/{provider.pk}")
    assert len(there.asked) == asked, "a failure is remembered for a while"


# --- Sessions ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("asks", [True, False])
def test_a_second_factor_is_asked_for_here_unless_the_provider_does(
    acme: TenantState, there: OidcStandIn, asks: bool
) -> None:
    provider = register(acme, there, admitted="@example.com", asks_second_factor=asks)
    need_second_factor(acme)
    desk = Desk(acme)
    go(desk, provider)
    assert desk.is_in() == asks


def test_who_has_a_second_factor_shows_it_here(acme: TenantState, there: OidcStandIn) -> None:
    provider = register(acme, there, admitted="@example.com")
    desk = Desk(acme)
    go(desk, provider)
    add_app(desk)
    again = Desk(acme)
    go(again, provider)
    assert desk.is_in() and not again.is_in()


def test_what_a_provider_began_ends_with_it(acme: TenantState, there: OidcStandIn) -> None:
    provider = register(acme, there, admitted="@example.com")
    desk, by_password = Desk(acme), Desk(acme, member(acme))
    go(desk, provider)
    by_password.post(f"sign-in-settings/providers/{provider.pk}/remove")
    assert by_password.is_in() and not desk.is_in()
    with tenancy.in_platform():
        assert not MemberIdentity.objects.exists()
    assert roles(acme)["ada@example.com"] == "analyst"


# --- Registering ---------------------------------------------------------------------------------------------------
def test_an_owner_adds_changes_and_removes_a_provider(acme: TenantState, there: OidcStandIn) -> None:
    desk = Desk(acme, member(acme))
    values = {"name": "SSO", "client_id": "console", "role": "viewer", "admitted": "@example.com"}
    added = desk.post(
        "sign-in-settings/providers/add", issuer=there.issuer, client_secret=there.client_secret, **values
    )
    with tenancy.in_platform():
        provider = SignInProvider.objects.get()
    one = f"sign-in-settings/providers/{provider.pk}"
    assert added.headers["Location"] == f"/console/{one}?done=provider"
    html = desk.text(one)
    assert f"/console/with/{provider.pk}/answer" in html and there.client_secret not in html
    assert desk.post(one, **{**values, "name": "Work"}).status_code == 302
    with tenancy.in_platform():
        provider = SignInProvider.objects.get()
    assert (provider.name, provider.client_secret) == ("Work", there.client_secret)
    assert "Work" in desk.text("sign-in-settings")
    desk.post("sign-in-settings", needed="yes")
    assert sign_in_providers.needs_second_factor(acme.ref)


def test_a_plan_without_single_sign_on_adds_no_provider_and_takes_none_away(
    acme: TenantState, there: OidcStandIn
) -> None:
    provider, desk = register(acme, there), Desk(acme, member(acme))
    staff, asked = Console(person("root", superuser=True)), len(there.asked)
    more = {"name": "More", "issuer": there.issuer, "client_id": "console", "role": "viewer"}
    changed = {**more, "name": "Work", "admitted": "@example.com"}
    with cast.on_tier("acme", Tier.PRO):
        for answer in (
            desk.post("sign-in-settings/providers/add", **more),
            staff.post(page(acme, "sign-in/"), **more),
        ):
            assert "plan does not include single sign-on" in answer.content.decode()
        with pytest.raises(Problem) as refused:
            register(acme, there, name="More")
        assert refused.value.code == Code.NOT_ALLOWED
        assert len(there.asked) == asked, "nobody is asked for its configuration"
        assert desk.post(f"sign-in-settings/providers/{provider.pk}", **changed).status_code == 302
        go(newcomer := Desk(acme), provider)
        assert newcomer.is_in()
    assert [one.name for one in sign_in_providers.of_tenant(acme.ref)] == ["Work"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"issuer": "http://127.0.0.1:9"}, "issuer"),
        ({"issuer": "ftp://example.com"}, "issuer"),
        ({"name": " "}, "name"),
        ({"admitted": "example.com"}, "admitted"),
        ({"admitted": "@"}, "admitted"),
        ({"role": "owner"}, "role"),
    ],
)
def test_what_cannot_be_is_refused(
    acme: TenantState, there: OidcStandIn, changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(Problem) as refused:
        register(acme, there, **changes)
    assert refused.value.more["errors"][0]["field"] == field


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "x"},
        {"token_endpoint": "ftp://x"},
        {"jwks_uri": None},
        {"authorization_endpoint": "javascript:x"},
    ],
)
def test_a_provider_that_says_nonsense_is_refused(
    acme: TenantState, there: OidcStandIn, document: dict[str, Any]
) -> None:
    there.document = document
    with pytest.raises(Problem):
        register(acme, there)


def test_a_provider_inside_our_network_is_never_asked(
    acme: TenantState, there: OidcStandIn, settings: Any
) -> None:
    settings.ALLOW_PRIVATE_KEY_SERVERS = False
    for issuer in (there.issuer, "https://127.0.0.1", "https://169.254.169.254"):
        with pytest.raises(Problem):
            register(acme, there, issuer=issuer)
    assert there.asked == []


def test_staff_add_and_remove_a_provider(acme: TenantState, there: OidcStandIn) -> None:
    console, path = Console(person("root", superuser=True)), page(acme, "sign-in/")
    values = {"name": "SSO", "issuer": there.issuer, "client_id": "console", "role": "viewer"}
    assert "https://" in console.post(path, **{**values, "issuer": "ftp://x"}).content.decode()
    assert console.post(path, **values).status_code == 302
    [provider] = sign_in_providers.of_tenant(acme.ref)
    assert "http://acme.localhost" in console.text(path) and str(provider.pk) in console.text(path)
    console.post(f"{path}second-factor/", needed="yes")
    assert sign_in_providers.needs_second_factor(acme.ref)
    console.post(f"{path}{provider.pk}/remove/")
    assert not sign_in_providers.of_tenant(acme.ref)


def test_staff_who_may_only_look_change_nothing(acme: TenantState) -> None:
    permissions = ("tenants.view_tenant", "tenants.view_membership")
    console, path = Console(person("grace", *permissions)), page(acme, "sign-in/")
    assert "Add a provider" not in console.text(path)
    for address in (path, f"{path}second-factor/", f"{path}{acme.ref.id}/remove/"):
        assert console.post(address, needed="yes").status_code == 403
    assert not sign_in_providers.needs_second_factor(acme.ref)
