"""Checking the tokens (JWTs) of end users: the platform's own, and those that tenants' backends sign.

A token says whose it is (`iss`, `tenant`, `kid`), and is believed nothing until its signature has been checked with
a key that we know for just that issuer of just that tenant, by the one algorithm that the key is for. What was checked
is remembered by the token's hash; what it rests on is asked anew each time.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock
from typing import Any
from uuid import UUID

import jwt
from cachetools import TTLCache
from django.conf import settings

from chatplatform import tenancy
from chatplatform.api.fields import CONTROL
from chatplatform.api.problem import Code, Problem
from tenants import selectors
from tenants.auth import standing
from tenants.models import Tenant
from tenants.models.tenant import SLUG
from tenants.selectors import TenantState
from tenants.services import contacts, signing_keys, token_issuers
from tenants.services.key_sets import NoKeys
from tenants.services.public_keys import PublicKey
from tenants.services.signing_keys import LEEWAY, LONGEST_TOKEN
from tenants.services.token_issuers import Issuer
from tenants.services.tokens import AUDIENCE, BY
from tenants.vocabulary import Scope

LARGEST = 8000  # characters
REMEMBERED, REMEMBERED_FOR = 10_000, 300.0  # tokens; s
MOST_TRIED = 5  # keys, for a token that does not name its own
OURS = ["iss", "aud", "exp", "nbf", "iat", "sub", "tenant", "scope", BY]
THEIRS = ["iss", "aud", "exp", "sub", "tenant"]
# What a token of an end user can carry at most; `scope` may name more, but there is nothing more to have.
CARRIED = frozenset({str(Scope.CHAT)})
WHY = {
    jwt.ExpiredSignatureError: "The token has expired.",
    jwt.ImmatureSignatureError: "The token is not valid yet.",
    jwt.InvalidAudienceError: f"The token is for another audience than {AUDIENCE!r}.",
}
WRONG_SIGNATURE = "The token's signature is wrong."
TOLD = {"name": 200, "email": 254}  # what a tenant's token may tell of its contact, and its longest


@dataclass(frozen=True, slots=True)
class Token:
    """What a token that was checked says. `rests_on` and `expires_at` as in Principal."""

    tenant_id: UUID
    contact_id: UUID
    scopes: frozenset[str]
    rests_on: tuple[str, ...]
    expires_at: float


_remembered: TTLCache[bytes, Token] = TTLCache(REMEMBERED, REMEMBERED_FOR)
_lock = Lock()


def looks_like_one(shown: str) -> bool:
    """Whether a credential is a token, and no API key."""
    return shown.count(".") == 2


def check(shown: str) -> Token:
    """What a token says, if it is good now. Raises Problem: `not_authenticated`; KeysAwaited is one of them."""
    if len(shown) > LARGEST or not shown.isascii():
        raise refused("The token cannot be read.")
    digest = hashlib.sha256(shown.encode()).digest()
    with _lock:
        token = _remembered.get(digest)
    if token is None:
        token = _checked(shown)
        with _lock:
            _remembered[digest] = token
    if standing.is_over(token.expires_at):
        raise refused(WHY[jwt.ExpiredSignatureError])
    if standing.gone(token.rests_on):
        raise refused("What the token rests on was revoked.")
    return token


def forget() -> None:
    """Drop all that is remembered."""
    with _lock:
        _remembered.clear()


def refused(why: str) -> Problem:
    """401 for a token."""
    return Problem(Code.NOT_AUTHENTICATED, why, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})


def _checked(shown: str) -> Token:
    try:
        unchecked = jwt.decode_complete(shown, options={"verify_signature": False})
    except jwt.InvalidTokenError as error:
        raise refused("The token cannot be read.") from error
    header, claims = unchecked["header"], unchecked["payload"]
    if claims.get("iss") == settings.TOKEN_ISSUER:
        return _own(shown, header)
    return _of_issuer(shown, header, claims)


def _own(shown: str, header: dict[str, Any]) -> Token:
    """A token of the platform's."""
    kid = header.get("kid")
    key = signing_keys.published().keys.get(kid) if kid else None
    if key is None:
        raise refused("The token names no key of ours.")
    known = PublicKey(kid, signing_keys.ALGORITHM, key)
    try:
        claims = _claims(shown, known, settings.TOKEN_ISSUER, OURS)
    except WrongSignature as error:
        raise refused(WRONG_SIGNATURE) from error
    tenant = _tenant(claims)
    try:
        contact_id = UUID(claims["sub"])
    except ValueError as error:
        raise refused("The token's `sub` is not one of ours.") from error
    rests_on = (f"signing-key:{kid}", f"key:{_line(claims, BY, 20)}")
    return _token(claims, tenant, contact_id, rests_on)


def _of_issuer(shown: str, header: dict[str, Any], unchecked: dict[str, Any]) -> Token:
    """A token of a tenant's backend. Its subject is the contact of this external id, made if it is new."""
    tenant = _tenant(unchecked)
    issuers = [one for one in token_issuers.of_tenant(tenant.ref.id) if one.issuer == unchecked.get("iss")]
    if not issuers:
        raise refused("The token is from nobody whom this tenant has registered.")
    for issuer, key in _candidates(issuers, header):
        try:
            claims = _claims(shown, key, issuer.issuer, THEIRS)
        except WrongSignature:
            continue
        told = {name: _line(claims, name, longest) for name, longest in TOLD.items() if name in claims}
        selectors.check_served(tenant)
        with tenancy.in_tenant(tenant.ref):
            contact = contacts.contact_for(_line(claims, "sub", 200), **told)
        return _token(claims, tenant, contact.pk, (issuer.thing,))
    raise refused(WRONG_SIGNATURE)


class WrongSignature(Exception):
    """This key did not sign the token."""


def _candidates(issuers: list[Issuer], header: dict[str, Any]) -> Iterator[tuple[Issuer, PublicKey]]:
    """The keys that may have signed a token with this header. Raises NoKeys after those there are."""
    kid, none, tried = header.get("kid"), None, 0
    for issuer in issuers:
        try:
            keys = issuer.keys(kid)
        except NoKeys as reason:
            none = reason
            continue
        for key in keys:
            fits = key.algorithm == header.get("alg") and (kid is None or key.kid in (None, kid))
            if fits and tried < MOST_TRIED:
                tried += 1
                yield issuer, key
    if none is not None:
        raise none


def _claims(shown: str, key: PublicKey, issuer: str, required: list[str]) -> dict[str, Any]:
    """The claims of a token that this key has signed. Raises WrongSignature, or Problem for claims that are wrong."""
    try:
        claims: dict[str, Any] = jwt.decode(
            shown,
            key.key,
            algorithms=[key.algorithm],
            audience=AUDIENCE,
            issuer=issuer,
            leeway=LEEWAY,
            options={"require": required},
        )
    except jwt.InvalidSignatureError as error:
        raise WrongSignature from error
    except jwt.MissingRequiredClaimError as error:
        raise refused(f"The token lacks the claim {error.claim!r}.") from error
    except jwt.InvalidTokenError as error:
        raise refused(WHY.get(type(error), "The token is not valid.")) from error
    if int(claims["exp"]) > time.time() + LONGEST_TOKEN + LEEWAY:
        raise refused(f"The token is good for longer than {LONGEST_TOKEN} s.")
    return claims


def _tenant(claims: dict[str, Any]) -> TenantState:
    slug = claims.get("tenant")
    if not isinstance(slug, str) or not re.fullmatch(SLUG, slug):
        raise refused("The token lacks the claim 'tenant': the slug of its tenant.")
    try:
        return selectors.tenant_by_slug(slug)
    except Tenant.DoesNotExist as error:
        raise refused("The token's tenant does not exist.") from error


def _line(claims: dict[str, Any], name: str, longest: int) -> str:
    """A claim that is a line of text."""
    text = claims[name]
    if not isinstance(text, str) or not 0 < len(text) <= longest or CONTROL.search(text):
        raise refused(f"The token's claim {name!r} is not a line of up to {longest} characters.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise refused(f"The token's claim {name!r} holds half of a surrogate pair.") from error
    return text


def _token(claims: dict[str, Any], tenant: TenantState, contact_id: UUID, rests_on: tuple[str, ...]) -> Token:
    scope = claims.get("scope", str(Scope.CHAT))
    scopes = CARRIED.intersection(scope.split()) if isinstance(scope, str) else frozenset()
    return Token(tenant.ref.id, contact_id, frozenset(scopes), rests_on, float(claims["exp"]) + LEEWAY)
