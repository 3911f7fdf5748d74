"""Tenants' own backends: registered with a key or an address of keys, and whose tokens are taken, and whose not."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from threading import Event
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from django.core.exceptions import SynchronousOnlyOperation
from jwt.utils import base64url_encode

from chatplatform import tenancy
from chatplatform.api.problem import Code, Problem
from chatplatform.testing import cast
from chatplatform.testing.backend import KeyServer, pair, running_key_server, signed
from tenants.auth import authentication, tokens
from tenants.auth.awaiting import with_keys_async
from tenants.models import Contact
from tenants.selectors import TenantState
from tenants.services import key_sets, public_keys, token_issuers
from tenants.services.public_keys import NotAKey
from tenants.tests.tokens import SHOP, contact_of, fresh, now, refusal, register, shown, ticket_of, unwanted

__all__ = ["fresh"]
DAY = 86_400


@pytest.fixture
def private_allowed(settings: Any) -> None:
    """Key servers may be on this machine."""
    settings.ALLOW_PRIVATE_KEY_SERVERS = True


@pytest.fixture
def server(private_allowed: None) -> Iterator[KeyServer]:
    """The key server of a shop, with its first key."""
    with running_key_server(pair()) as running:
        yield running


# --- Keys that were given --------------------------------------------------------------------------------------
@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
@pytest.mark.parametrize("form", ["pem", "jwk", "jwks"])
def test_a_backend_signs_for_its_end_users(fresh: TenantState, algorithm: str, form: str) -> None:
    key = pair(algorithm)
    given = {"pem": key.pem, "jwk": json.dumps(key.jwk), "jwks": json.dumps({"keys": [key.jwk]})}[form]
    register(fresh, public_key=given)
    who = shown(ticket_of(key, name="Ada", email="ada@shop.example"))
    contact = contact_of(fresh, "ada")
    assert (contact.name, contact.email) == ("Ada", "ada@shop.example")
    assert (who.contact_id, set(who.scopes), who.platform) == (contact.pk, {"chat"}, False)
    again = shown(ticket_of(key, name="Ada Lovelace"))
    assert (again.contact_id, contact_of(fresh, "ada").name) == (contact.pk, "Ada Lovelace")
    assert shown(ticket_of(key, sub="bob")).contact_id != contact.pk


def test_a_token_need_not_name_its_key_if_there_are_few(fresh: TenantState) -> None:
    for number in range(3):
        register(fresh, pair("ES256", f"k{number}"), name=f"shop {number}")
    assert shown(ticket_of(pair("ES256", "k2"), headers={}))
    assert "signature" in unwanted(ticket_of(pair("ES256", "else"), headers={}))


def test_not_all_keys_of_many_are_tried(fresh: TenantState) -> None:
    for number in range(tokens.MOST_TRIED + 1):
        register(fresh, pair("EdDSA", f"k{number}"), name=f"{number}")
    assert shown(ticket_of(pair("EdDSA", "k0"), headers={}))
    assert "signature" in unwanted(ticket_of(pair("EdDSA", f"k{tokens.MOST_TRIED}"), headers={}))


def test_two_keys_of_one_issuer_overlap(fresh: TenantState) -> None:
    """How a backend without a key server changes its key: register the new one, sign with it, remove the old one."""
    old = register(fresh, pair("ES256", "old"), name="old")
    register(fresh, pair("ES256", "new"), name="new")
    tokens_of_both = [ticket_of(pair("ES256", kid)) for kid in ("old", "new")]
    assert shown(tokens_of_both[0]).contact_id == shown(tokens_of_both[1]).contact_id
    token_issuers.remove(fresh.ref, old.pk)
    assert "revoked" in unwanted(tokens_of_both[0])
    assert "signature" in unwanted(ticket_of(pair("ES256", "old")))
    assert shown(tokens_of_both[1])


def test_what_a_backend_said_ends_when_it_is_removed(fresh: TenantState) -> None:
    row = register(fresh, pair())
    token = ticket_of(pair())
    assert shown(token)
    token_issuers.remove(fresh.ref, row.pk)
    assert "revoked" in unwanted(token)
    assert "nobody" in unwanted(ticket_of(pair()))


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"exp": 1}, "expired"),
        ({"exp": None}, "'exp'"),
        ({"exp": now() + 10 * DAY}, "longer than"),
        ({"nbf": now() + DAY}, "not valid yet"),
        ({"iat": now() + DAY}, "not valid yet"),
        ({"aud": "shop"}, "audience"),
        ({"aud": None}, "'aud'"),
        ({"iss": "https://other.example"}, "nobody"),
        ({"iss": None}, "nobody"),
        ({"iss": ["https://shop.example"]}, "nobody"),
        ({"sub": None}, "'sub'"),
        ({"sub": ""}, "'sub'"),
        ({"sub": 7}, "not valid"),
        ({"sub": "a\0b"}, "'sub'"),
        ({"sub": "\ud800"}, "surrogate"),
        ({"sub": "x" * 201}, "'sub'"),
        ({"name": "a\nb"}, "'name'"),
        ({"email": ["x"]}, "'email'"),
        ({"tenant": None}, "'tenant'"),
        ({"tenant": "globex"}, "nobody"),
    ],
)
def test_a_wrong_claim_is_refused(
    fresh: TenantState, globex: TenantState, claims: dict[str, Any], why: str
) -> None:
    register(fresh, pair("EdDSA"))
    said = {"tenant": "acme", **claims}
    tenant, sub = said.pop("tenant"), said.pop("sub", "ada")
    token = signed(pair("EdDSA"), SHOP, tenant, sub, **said)
    assert why in unwanted(token)


@pytest.mark.parametrize("scope", ["config", "platform", "billing:read knowledge", ""])
def test_a_backend_grants_no_more_than_chat(fresh: TenantState, scope: str) -> None:
    register(fresh, pair("EdDSA"))
    assert shown(ticket_of(pair("EdDSA"), scope=scope)).scopes == frozenset()
    assert shown(ticket_of(pair("EdDSA"), scope=f"{scope} chat")).scopes == {"chat"}


# --- Whose tokens ----------------------------------------------------------------------------------------------
def test_a_backend_speaks_for_its_own_tenant_alone(fresh: TenantState, globex: TenantState) -> None:
    register(fresh, pair("ES256"))
    assert "nobody" in unwanted(ticket_of(pair("ES256"), tenant="globex")), "Globex has not registered it"
    token = ticket_of(pair("ES256"))
    for named, host in (("globex", None), (None, globex), ("acme", globex)):
        assert refusal(token, named, host)[0] is Code.TENANT_MISMATCH
    with tenancy.in_tenant(globex.ref):
        assert not Contact.objects.filter(external_id="ada").exists()


def test_two_tenants_may_know_the_same_backend_and_are_told_apart(
    fresh: TenantState, globex: TenantState
) -> None:
    for tenant in (fresh, globex):
        register(tenant, pair("ES256"))
    for slug in ("acme", "globex"):
        who = shown(ticket_of(pair("ES256"), tenant=slug))
        assert who.tenant is not None
        assert who.tenant.ref.slug == slug


def test_a_tenants_key_does_not_pass_for_the_platforms(fresh: TenantState, settings: Any) -> None:
    register(fresh, pair())
    assert "no key of ours" in unwanted(signed(pair(), settings.TOKEN_ISSUER, "acme", "ada"))
    with pytest.raises(Problem) as caught:
        register(fresh, pair(), name="us", issuer=settings.TOKEN_ISSUER)
    assert caught.value.more["errors"][0]["field"] == "issuer"


def test_what_one_issuer_signed_another_did_not(fresh: TenantState) -> None:
    register(fresh, pair("ES256", "a"), name="a", issuer="https://a.example")
    register(fresh, pair("ES256", "b"), name="b", issuer="https://b.example")
    assert "signature" in unwanted(
        signed(pair("ES256", "a"), "https://b.example", "acme", "ada", headers={"kid": "b"})
    )


# --- Confusion -------------------------------------------------------------------------------------------------
def test_a_public_key_is_no_shared_secret(fresh: TenantState) -> None:
    hs256 = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    for algorithm in ("RS256", "ES256", "EdDSA"):
        key = pair(algorithm)
        register(fresh, key, name=algorithm)
        claims = jwt.decode(ticket_of(key), options={"verify_signature": False})
        for secret in (key.pem.encode(), key.pem.strip().encode(), json.dumps(key.jwk).encode(), b""):
            for named in ({"kid": key.kid}, {}):
                header = {"alg": "HS256", "typ": "JWT", **named}
                start = b".".join(base64url_encode(json.dumps(one).encode()) for one in (header, claims))
                signature = base64url_encode(hs256.sign(start, secret)).decode()
                assert "signature" in unwanted(f"{start.decode()}.{signature}")
        for none in ("none", "None", "nOnE"):
            unsigned = base64url_encode(json.dumps({"alg": none, "kid": key.kid}).encode()).decode()
            assert "signature" in unwanted(f"{unsigned}.{ticket_of(key).split('.')[1]}.")


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256", "PS512"])
def test_a_key_is_for_one_algorithm(fresh: TenantState, algorithm: str) -> None:
    register(fresh, pair())
    claims = jwt.decode(ticket_of(pair()), options={"verify_signature": False})
    assert "signature" in unwanted(jwt.encode(claims, pair().secret, algorithm, headers={"kid": "one"}))


def test_a_key_in_the_token_is_not_looked_at(fresh: TenantState, server: KeyServer) -> None:
    register(fresh, pair("ES256", "known"))
    stranger = pair("ES256", "stranger")
    for more in ({"jwk": stranger.jwk}, {"jku": server.url}, {"x5u": server.url}):
        for kid in ("known", "stranger"):
            assert "signature" in unwanted(ticket_of(stranger, headers={"kid": kid, **more}))
    assert server.asked == 0


# --- What can be registered ------------------------------------------------------------------------------------
def private_pem(key: Any) -> str:
    form, no = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return str(key.private_bytes(serialization.Encoding.PEM, form, no).decode())


def public_pem(key: Any) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return str(key.public_key().public_bytes(serialization.Encoding.PEM, form).decode())


WRONG_KEYS: dict[str, Callable[[], str]] = {
    "nonsense": lambda: "nonsense",
    "an empty set": lambda: '{"keys": []}',
    "no list": lambda: '{"keys": {}}',
    "a list": lambda: "[]",
    "a number": lambda: "5",
    "deep": lambda: "[" * 100_000,
    "pem of nothing": lambda: "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
    "a shared secret": lambda: '{"kty": "oct", "k": "c2VjcmV0"}',
    "a private key": lambda: private_pem(pair("ES256").secret),
    "a private jwk": lambda: json.dumps({**pair("ES256").jwk, "d": "AAAA"}),
    "too short": lambda: public_pem(rsa.generate_private_key(public_exponent=65537, key_size=1024)),
    "another curve": lambda: public_pem(ec.generate_private_key(ec.SECP384R1())),
    "far too long": lambda: json.dumps({"kty": "RSA", "n": "A" * 40_000, "e": "AQAB"}),
    "no kind": lambda: '{"kid": "x"}',
    "a strange kind": lambda: '{"kty": ["RSA"]}',
    "for encryption": lambda: json.dumps({**pair("ES256").jwk, "use": "enc"}),
    "for other operations": lambda: json.dumps({**pair("ES256").jwk, "key_ops": 5}),
    "for another algorithm": lambda: json.dumps({**pair().jwk, "alg": "HS256"}),
    "a kid that is none": lambda: json.dumps({**pair("ES256").jwk, "kid": "a\0"}),
    "half a key": lambda: '{"kty": "EC", "crv": "P-256", "x": "AAAA"}',
}


@pytest.mark.parametrize("kind", WRONG_KEYS)
def test_what_is_no_public_key_is_refused_in_words(fresh: TenantState, kind: str) -> None:
    with pytest.raises(Problem) as caught:
        register(fresh, public_key=WRONG_KEYS[kind]())
    assert caught.value.more["errors"][0]["field"] == "public_key"
    if "private" in kind:
        assert "keep it to yourself" in caught.value.detail


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"issuer": " "}, "issuer"),
        ({"public_key": ""}, "jwks_url"),
        ({"jwks_url": "https://keys.example/"}, "jwks_url"),
        ({"public_key": "", "jwks_url": "http://keys.example/"}, "jwks_url"),
        ({"public_key": "", "jwks_url": "https://127.0.0.1/"}, "jwks_url"),
        ({"public_key": "", "jwks_url": "https://no-such-host.invalid/"}, "jwks_url"),
    ],
)
def test_what_makes_no_issuer_is_refused_by_its_field(
    fresh: TenantState, values: dict[str, str], field: str
) -> None:
    with pytest.raises(Problem) as caught:
        register(fresh, pair("EdDSA"), **values)
    assert caught.value.more["errors"][0]["field"] == field


def test_a_name_is_there_once_and_there_are_not_too_many(
    fresh: TenantState, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(fresh, pair("EdDSA"))
    with pytest.raises(Problem, match="already"):
        register(fresh, pair("EdDSA"))
    monkeypatch.setattr(token_issuers, "MOST", 1)
    with pytest.raises(Problem, match="at most 1"):
        register(fresh, pair("EdDSA"), name="second")


def test_only_what_makes_a_public_key_is_stored(fresh: TenantState) -> None:
    row = register(fresh, public_key=json.dumps({**pair("EdDSA").jwk, "note": "x", "x5c": ["y"]}))
    assert set(row.public_keys[0]) == {"kty", "kid", "crv", "x"}
    assert set(register(fresh, pair(), name="pem").public_keys[0]) == {"kty", "n", "e"}


def test_keys_of_others_in_a_set_are_passed_over() -> None:
    document = {"keys": [pair().jwk, {"kty": "oct", "k": "x"}, "x", {**pair("ES256").jwk, "use": "enc"}]}
    assert [key.kid for key in public_keys.usable_in(document)] == ["one"]
    nothing: list[Any] = [{}, [], {"keys": None}, None]
    for wrong in nothing:
        with pytest.raises(NotAKey):
            public_keys.usable_in(wrong)


# --- Keys at an address ----------------------------------------------------------------------------------------
def test_keys_are_fetched_once_and_kept(fresh: TenantState, server: KeyServer) -> None:
    register(fresh, jwks_url=server.url)
    assert server.asked == 1, "whoever registers it hears whether it works"
    for sub in ("ada", "bob", "eve"):
        assert shown(ticket_of(pair(), sub))
    assert server.asked == 2


def test_a_new_key_is_fetched_when_a_token_names_it(fresh: TenantState, server: KeyServer) -> None:
    register(fresh, jwks_url=server.url)
    assert shown(ticket_of(pair()))
    server.keys.append(pair("ES256", "two").jwk)
    assert shown(ticket_of(pair("ES256", "two")))
    assert shown(ticket_of(pair()))
    assert server.asked == 3
    server.keys.append(pair("ES256", "three").jwk)
    assert "signature" in unwanted(ticket_of(pair("ES256", "three"))), "too soon after the last look"
    pass_time(key_sets.APART + 1)
    assert shown(ticket_of(pair("ES256", "three")))


def test_names_of_keys_that_nobody_has_make_no_storm(fresh: TenantState, server: KeyServer) -> None:
    register(fresh, jwks_url=server.url)
    assert shown(ticket_of(pair()))
    asked = server.asked
    for number in range(20):
        assert "signature" in unwanted(ticket_of(pair("ES256", f"never {number}")))
    pass_time(key_sets.APART + 1)
    for number in range(20):
        assert "signature" in unwanted(ticket_of(pair("ES256", f"never {number}")))
    assert server.asked == asked + 2
    assert shown(ticket_of(pair()))


def test_old_keys_are_looked_at_again_and_go_on_while_the_server_is_away(
    fresh: TenantState, server: KeyServer
) -> None:
    register(fresh, jwks_url=server.url)
    assert shown(ticket_of(pair()))
    server.answer = lambda handler: handler.send_error(500)
    asked = server.asked
    pass_time(key_sets.FRESH + 1)
    assert shown(ticket_of(pair(), "bob")), "with the keys from before, without waiting"
    settled()
    assert server.asked == asked + 1
    pass_time(key_sets.GOOD_FOR)
    assert "cannot be fetched" in unwanted(ticket_of(pair(), "eve"))
    server.answer = None
    asked = server.asked
    pass_time(key_sets.APART + 1)
    assert "cannot be fetched" in unwanted(ticket_of(pair(), "eve"))
    assert server.asked == asked, "it is asked ever more seldom"
    pass_time(key_sets.FRESH)
    assert shown(ticket_of(pair(), "eve"))


def test_a_key_that_was_taken_out_is_not_taken_any_more(fresh: TenantState, server: KeyServer) -> None:
    register(fresh, jwks_url=server.url)
    assert shown(ticket_of(pair()))
    server.keys[:] = [pair("ES256", "two").jwk]
    pass_time(key_sets.FRESH + 1)
    assert shown(ticket_of(pair(), "bob"))
    settled()
    assert "signature" in unwanted(ticket_of(pair(), "eve"))
    assert shown(ticket_of(pair("ES256", "two")))


def test_a_slow_server_is_asked_once_by_all_who_wait(fresh: TenantState, server: KeyServer) -> None:
    register(fresh, jwks_url=server.url)
    asked, let_go = server.asked, Event()

    def slow(handler: BaseHTTPRequestHandler) -> None:
        let_go.wait(5)
        server.answer = None
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(json.dumps({"keys": server.keys}).encode())

    server.answer = slow
    row = token_issuers.of_tenant(fresh.ref.id)[0]

    def wait() -> int:
        try:
            return len(row.keys("one"))
        except key_sets.KeysAwaited as awaited:
            let_go.set()
            awaited.fetched.result(5)
            return len(row.keys("one"))

    with ThreadPoolExecutor(5) as threads:
        assert list(threads.map(lambda _: wait(), range(5))) == [1] * 5
    assert server.asked == asked + 1


@pytest.mark.parametrize(
    "body", [b"", b"nonsense", b"[]", b"{}", b'{"keys": 5}', b"\xff", b"[" * 100_000, b"x" * 300_000]
)
def test_a_server_that_says_something_else_has_no_keys(
    fresh: TenantState, server: KeyServer, body: bytes
) -> None:
    register(fresh, jwks_url=server.url)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(body)

    server.answer = answer
    assert unwanted(ticket_of(pair()))
    with pytest.raises(Problem) as caught:
        register(fresh, name="second", jwks_url=server.url)
    assert caught.value.more["errors"][0]["field"] == "jwks_url"


def test_an_event_loop_waits_for_keys_without_a_thread(fresh: TenantState, server: KeyServer) -> None:
    """In the loop nothing may block: the fetch is somebody else's, and is awaited."""
    register(fresh, jwks_url=server.url)
    row = token_issuers.of_tenant(fresh.ref.id)[0]

    async def keys() -> int:
        async def look() -> int:
            return len(row.keys("one"))

        return await with_keys_async(look)

    assert asyncio.run(keys()) == 1


def test_an_event_loop_is_kept_off_the_database(fresh: TenantState) -> None:
    register(fresh, pair("EdDSA"))
    token = ticket_of(pair("EdDSA"))
    cast.state("acme")
    token_issuers.of_tenant(fresh.ref.id)

    async def look() -> None:
        with pytest.raises(SynchronousOnlyOperation):
            authentication.bearer(f"Bearer {token}", None, None)

    asyncio.run(look())
    assert shown(token)

    async def look_again() -> None:
        assert authentication.bearer(f"Bearer {token}", None, None)

    asyncio.run(look_again())


def pass_time(seconds: float) -> None:
    """Have the time pass for all key sets."""
    settled()
    for found in key_sets._kept.values():
        found.fetched_at -= seconds
        found.tried_at -= seconds


def settled() -> None:
    """Wait until nothing is being fetched."""
    deadline = time.monotonic() + 10
    while any(found.fetching for found in key_sets._kept.values()):
        assert time.monotonic() < deadline
        time.sleep(0.001)
