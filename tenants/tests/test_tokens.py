"""The platform's own tokens: made, taken, and every way to be refused."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from django.conf import settings
from jwt.utils import base64url_encode

from chatplatform import tenancy
from chatplatform.api.problem import Code
from chatplatform.testing.backend import pair
from tenants.auth import tokens as checking
from tenants.models import ApiKey, Contact, Tenant
from tenants.selectors import TenantState
from tenants.services import api_keys, lifecycle, signing_keys, tokens
from tenants.services.contacts import contact_for
from tenants.tests.tokens import fresh, now, refusal, shown, unwanted
from tenants.vocabulary import Scope

__all__ = ["fresh"]
DAY = 86_400


@pytest.fixture
def key(fresh: TenantState) -> ApiKey:
    """Acme's key, which asks for tokens."""
    with tenancy.in_platform():
        return api_keys.create(Tenant.objects.get(slug="acme"), [Scope.CHAT])[0]


@pytest.fixture
def ada(fresh: TenantState) -> Contact:
    """An end user of Acme's."""
    with tenancy.in_tenant(fresh.ref):
        return contact_for("ada")


@pytest.fixture
def token(fresh: TenantState, key: ApiKey, ada: Contact) -> str:
    """Ada's token."""
    return tokens.issue(fresh, ada, by=key.public_id)


@pytest.fixture
def forge(fresh: TenantState, key: ApiKey, ada: Contact) -> Callable[..., str]:
    """Tokens that the platform's current key has signed, with other claims and headers."""

    def make(headers: dict[str, Any] | None = None, **changed: Any) -> str:
        good = jwt.decode(tokens.issue(fresh, ada, by=key.public_id), options={"verify_signature": False})
        claims = {name: value for name, value in {**good, **changed}.items() if value is not None}
        signer = signing_keys.signer()
        named = {"kid": signer.kid, **(headers or {})}
        return jwt.PyJWS().encode(json.dumps(claims).encode(), signer.key, "RS256", headers=named)

    return make


def test_a_token_is_its_contacts_and_may_chat(token: str, fresh: TenantState, ada: Contact) -> None:
    who = shown(token)
    assert (who.contact_id, set(who.scopes), who.platform) == (ada.pk, {"chat"}, False)
    assert who.tenant is not None
    assert who.tenant.ref == fresh.ref
    assert who.credential == f"contact:{ada.pk}", "as with the cookie: what was sent twice is known again"


def test_a_token_says_what_the_contract_says(token: str, ada: Contact, key: ApiKey) -> None:
    header = jwt.get_unverified_header(token)
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (header["alg"], header["kid"]) == ("RS256", signing_keys.signer().kid)
    assert claims == {
        "iss": settings.TOKEN_ISSUER,
        "aud": "chatplatform",
        "sub": str(ada.pk),
        "tenant": "acme",
        "scope": "chat",
        "iat": claims["iat"],
        "nbf": claims["iat"],
        "exp": claims["iat"] + 3600,
        "jti": claims["jti"],
        "key": key.public_id,
    }


def test_anybody_can_check_it_with_the_published_keys(token: str) -> None:
    document = signing_keys.published().document
    known = jwt.PyJWKSet.from_dict(json.loads(json.dumps(document)))
    kid = jwt.get_unverified_header(token)["kid"]
    claims = jwt.decode(token, known[kid], algorithms=["RS256"], audience="chatplatform")
    assert claims["tenant"] == "acme"
    assert all(set(one) == {"kty", "use", "alg", "kid", "n", "e"} for one in document["keys"]), (
        "nothing private"
    )


# --- The claims ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"exp": 1}, "expired"),
        ({"exp": now() - 11}, "expired"),
        ({"nbf": now() + DAY}, "not valid yet"),
        ({"iat": now() + DAY}, "not valid yet"),
        ({"aud": "somebody"}, "audience"),
        ({"aud": ["somebody", "else"]}, "audience"),
        ({"aud": ""}, "lacks"),
        ({"exp": now() + 10 * DAY}, "longer than 86400 s"),
        ({"exp": "soon"}, "not valid"),
        ({"exp": 1e400}, "not valid"),
        ({"exp": []}, "not valid"),
        ({"nbf": "now"}, "not valid"),
        ({"sub": "ada"}, "not one of ours"),
        ({"sub": 5}, "not valid"),
        ({"tenant": "nobody"}, "does not exist"),
        ({"tenant": "ACME"}, "slug"),
        ({"tenant": "a\0"}, "slug"),
        ({"tenant": ["acme"]}, "slug"),
        ({"key": "nosuchkey123"}, "revoked"),
        ({"key": ["x"]}, "line of up to"),
        ({"key": "\0"}, "line of up to"),
        *(({name: None}, "lacks") for name in ("aud", "exp", "nbf", "iat", "sub", "tenant", "scope", "key")),
    ],
)
def test_a_wrong_claim_is_refused(forge: Callable[..., str], changed: dict[str, Any], why: str) -> None:
    assert why in unwanted(forge(**changed))


@pytest.mark.parametrize("issuer", [None, "", "https://evil.example", f"{settings.TOKEN_ISSUER}/", ["x"]])
def test_another_issuer_is_refused_although_the_key_is_ours(forge: Callable[..., str], issuer: Any) -> None:
    assert "registered" in unwanted(forge(iss=issuer))


def test_clocks_may_differ_by_a_few_seconds(forge: Callable[..., str]) -> None:
    assert shown(forge(nbf=now() + 5, iat=now() + 5))
    assert shown(forge(exp=now() - 5))


@pytest.mark.parametrize(
    ("scope", "carried"),
    [
        ("chat", True),
        ("config chat", True),
        ("config", False),
        ("platform", False),
        ("", False),
        (["chat"], False),
    ],
)
def test_no_token_carries_more_than_chat(forge: Callable[..., str], scope: Any, carried: bool) -> None:
    assert shown(forge(scope=scope)).scopes == ({Scope.CHAT} if carried else set())


# --- The signature ---------------------------------------------------------------------------------------------
def test_a_token_that_was_touched_is_refused(token: str) -> None:
    header, claims, signature = token.split(".")
    other = base64url_encode(b'{"iss":"%s","tenant":"globex"}' % settings.TOKEN_ISSUER.encode()).decode()
    assert "signature" in unwanted(f"{header}.{other}.{signature}")
    assert "signature" in unwanted(f"{header}.{claims}.{signature[:-8]}AAAAAAAA")
    assert "signature" in unwanted(f"{header}.{claims}.")


def test_no_signature_is_none(token: str) -> None:
    _, claims, signature = token.split(".")
    for algorithm in ("none", "None", "NONE", ""):
        for kid in (signing_keys.signer().kid, None):
            header = base64url_encode(json.dumps({"alg": algorithm, "kid": kid or "x"}).encode()).decode()
            for end in ("", signature):
                unwanted(f"{header}.{claims}.{end}")


def test_the_public_key_is_no_shared_secret(forge: Callable[..., str]) -> None:
    """The classic: HS256 with our public key as the secret, which everybody has."""
    kid = signing_keys.signer().kid
    public = signing_keys.published().keys[kid]
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    claims = jwt.decode(forge(), options={"verify_signature": False})
    hs256 = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    jwk = json.dumps(signing_keys.published().document["keys"][0]).encode()
    for secret in (public.public_bytes(encoding, form), jwk, b""):
        start = b".".join(
            base64url_encode(json.dumps(one).encode()) for one in ({"alg": "HS256", "kid": kid}, claims)
        )
        signature = base64url_encode(hs256.sign(start, secret))
        assert unwanted(f"{start.decode()}.{signature.decode()}") == "The token is not valid."


@pytest.mark.parametrize("algorithm", ["RS512", "PS256", "RS384"])
def test_our_key_is_for_one_algorithm(forge: Callable[..., str], algorithm: str) -> None:
    signer = signing_keys.signer()
    claims = jwt.decode(forge(), options={"verify_signature": False})
    unwanted(jwt.encode(claims, signer.key, algorithm, headers={"kid": signer.kid}))


def test_a_key_of_the_tokens_own_choice_is_not_looked_at(forge: Callable[..., str]) -> None:
    stranger = pair("RS256", "stranger")
    claims = jwt.decode(forge(), options={"verify_signature": False})
    kid = signing_keys.signer().kid
    for more in (
        {"jwk": stranger.jwk},
        {"jku": "https://evil.example/jwks.json"},
        {"x5u": "https://evil.example"},
    ):
        for named in ({"kid": kid}, {"kid": "stranger"}, {}):
            unwanted(jwt.encode(claims, stranger.secret, "RS256", headers={**named, **more}))


@pytest.mark.parametrize("kid", ["nobody", "", "../../etc/passwd", "x' OR 1=1 --", "\0"])
def test_an_unknown_key_is_refused(forge: Callable[..., str], kid: str) -> None:
    assert "no key of ours" in unwanted(forge({"kid": kid}))


def test_critical_headers_that_nobody_knows_are_refused(forge: Callable[..., str]) -> None:
    unwanted(forge({"crit": ["exp"], "exp": 1}))


@pytest.mark.parametrize(
    "text", ["..", "a.b.c", "....", "e30.e30.", "e30.e30.e30", "\xe9.\xe9.\xe9", "x" * 9000 + "..", "W10.W10.W10",
             "eyJraWQiOjV9.e30.e30"],
)  # fmt: skip
def test_what_is_no_token_is_refused(fresh: TenantState, text: str) -> None:
    refusal(text)


# --- Whose it is -----------------------------------------------------------------------------------------------
def test_a_token_is_its_own_tenants_alone(token: str, fresh: TenantState, globex: TenantState) -> None:
    assert shown(token, "acme", fresh)
    for named, host in (
        ("globex", None),
        (None, globex),
        ("acme", globex),
        ("globex", fresh),
        ("nobody", None),
    ):
        assert refusal(token, named, host)[0] is Code.TENANT_MISMATCH


def test_another_tenants_name_in_it_makes_it_that_tenants_and_nobody_there(
    forge: Callable[..., str], globex: TenantState, ada: Contact
) -> None:
    """We sign for one tenant only; were it otherwise, the contact still would be nobody's there."""
    who = shown(forge(tenant="globex"))
    assert who.tenant is not None
    with tenancy.in_tenant(who.tenant.ref):
        assert not Contact.objects.filter(pk=ada.pk).exists()


def test_a_suspended_tenants_tokens_are_refused(token: str) -> None:
    assert shown(token)
    lifecycle.suspend("acme")
    assert refusal(token)[0] is Code.TENANT_SUSPENDED
    lifecycle.resume("acme")
    assert shown(token)


def test_a_token_ends_with_the_key_that_asked_for_it(token: str, key: ApiKey) -> None:
    assert shown(token)
    api_keys.revoke(key.public_id)
    assert "revoked" in unwanted(token)


def test_a_token_is_good_until_its_time_is_over_also_where_it_is_remembered(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = shown(token)
    assert who.expires_at is not None
    monkeypatch.setattr(time, "time", lambda: who.expires_at + 1)
    assert "expired" in unwanted(token)


def test_a_remembered_token_costs_no_signature_and_no_query(
    token: str, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    shown(token)
    monkeypatch.setattr(checking, "_checked", None)
    with django_assert_num_queries(0):
        assert shown(token)


def test_as_many_tokens_are_remembered_as_there_is_room_for(token: str) -> None:
    shown(token)
    (remembered,) = checking._remembered.values()
    for number in range(checking.REMEMBERED):
        checking._remembered[str(number).encode()] = remembered
    assert len(checking._remembered) == checking.REMEMBERED
    assert shown(token), "forgotten, and checked anew"


def test_a_token_names_a_contact_by_our_id_not_by_theirs(token: str, ada: Contact) -> None:
    claims = jwt.decode(token, options={"verify_signature": False})
    assert UUID(claims["sub"]) == ada.pk
    assert not re.search(r"\bada\b", str(claims))  # an id may have these letters
