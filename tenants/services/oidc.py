"""OpenID Connect, as its client: the code flow with PKCE, state and nonce, and no more of it.

All that is fetched is at addresses which a tenant, or its provider, has named: `chatplatform.outbound` fetches it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from threading import BoundedSemaphore, Lock
from typing import Any
from urllib.parse import quote, urlencode

import jwt
import structlog
from cachetools import TTLCache
from django.conf import settings
from django.utils.crypto import constant_time_compare

from chatplatform import outbound
from chatplatform.api.problem import Code, Problem
from tenants.auth.awaiting import with_keys
from tenants.models import SignInProvider
from tenants.services import key_sets

log = structlog.get_logger("tenants.oidc")
DISCOVERY = "/.well-known/openid-configuration"
LEEWAY = 60  # s that clocks may differ
LONGEST_SUBJECT = 255
FETCHES = 4  # at once, in one process: a slow provider holds up no more requests than these
REQUIRED = ["iss", "sub", "aud", "exp", "iat", "nonce"]
SCOPE = "openid email"


class ProviderFailed(Exception):
    """The provider does not do what it has to; the text says what, for the person who registers it."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """What a provider says of itself, as far as it is needed."""

    authorization: str
    token: str
    jwks: str
    takes_basic: bool
    names_itself: bool


@dataclass(frozen=True, slots=True)
class Journey:
    """What a browser carries to the provider and back; `as_dict` is plain JSON."""

    state: str
    nonce: str
    verifier: str

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Person:
    """Whom a provider vouches for. `email` is empty unless the provider says that it is verified."""

    issuer: str
    subject: str
    email: str


_kept: TTLCache[str, Endpoints] = TTLCache(1000, 600)
_failed: TTLCache[str, str] = TTLCache(1000, 10)
_lock = Lock()
_places = BoundedSemaphore(FETCHES)


def endpoints(issuer: str, *, anew: bool = False) -> Endpoints:
    """Where a provider is. Kept for ten minutes, a failure for ten seconds. Raises ProviderFailed."""
    with _lock:
        if not anew and (kept := _kept.get(issuer)) is not None:
            return kept
        if not anew and (failed := _failed.get(issuer)) is not None:
            raise ProviderFailed(failed)
    try:
        found = _read(issuer, _document(issuer.rstrip("/") + DISCOVERY))
    except ProviderFailed as error:
        with _lock:
            _failed[issuer] = str(error)
        raise
    with _lock:
        _kept[issuer] = found
    return found


def begin(provider: SignInProvider, redirect_uri: str) -> tuple[str, Journey]:
    """The address that a browser is sent to, and what it carries. Raises ProviderFailed."""
    there = endpoints(provider.issuer)
    journey = Journey(*(secrets.token_urlsafe(32) for _ in range(3)))
    asked = {
        "response_type": "code",
        "client_id": provider.client_id,
        "redirect_uri": redirect_uri,
        "scope": SCOPE,
        "state": journey.state,
        "nonce": journey.nonce,
        "code_challenge": _base64(hashlib.sha256(journey.verifier.encode()).digest()),
        "code_challenge_method": "S256",
    }
    return f"{there.authorization}{'&' if '?' in there.authorization else '?'}{urlencode(asked)}", journey


def finish(
    provider: SignInProvider, journey: Journey, answer: Mapping[str, str], redirect_uri: str
) -> Person:
    """Whom the provider vouches for, out of what the browser brings back. Raises Problem `not_authenticated`."""
    if not constant_time_compare(answer.get("state", ""), journey.state):
        raise _refused("This sign-in was begun elsewhere, or too long ago. Try again.")
    if "code" not in answer:
        raise _refused(f"{provider.name} did not sign you in.")
    try:
        there = endpoints(provider.issuer)
        said = answer.get("iss", provider.issuer if not there.names_itself else "")
        if said != provider.issuer:
            raise ProviderFailed("The answer is from another provider.")
        return _person(
            provider, there, _exchange(provider, there, journey, answer["code"], redirect_uri), journey
        )
    except ProviderFailed as error:
        log.warning("provider_failed", provider=str(provider.pk), error=str(error))
        raise _refused(
            f"{provider.name} could not sign you in: its answer was not as it has to be."
        ) from error


def _exchange(
    provider: SignInProvider, there: Endpoints, journey: Journey, code: str, redirect_uri: str
) -> str:
    """The id token for a code."""
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": redirect_uri,
        "code_verifier": journey.verifier,
    }
    headers = {}
    if provider.client_secret and there.takes_basic:
        pair = f"{quote(provider.client_id, safe='')}:{quote(provider.client_secret, safe='')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    else:
        form["client_id"] = provider.client_id
        if provider.client_secret:
            form["client_secret"] = provider.client_secret
    token = _document(there.token, form, headers).get("id_token")
    if not isinstance(token, str):
        raise ProviderFailed("There is no id token in its answer.")
    return token


def _person(provider: SignInProvider, there: Endpoints, token: str, journey: Journey) -> Person:
    claims = with_keys(lambda: _claims(provider, there, token))
    audience = claims["aud"]
    party = claims.get("azp", provider.client_id if isinstance(audience, str) or len(audience) == 1 else "")
    if party != provider.client_id:
        raise ProviderFailed("The id token was made for another client.")
    if not isinstance(claims["nonce"], str) or not constant_time_compare(claims["nonce"], journey.nonce):
        raise ProviderFailed("The id token was made for another sign-in.")
    subject, email = claims["sub"], claims.get("email")
    if not 0 < len(subject) <= LONGEST_SUBJECT or "\0" in subject:
        raise ProviderFailed("The subject is not a line of text.")
    # Nothing but `true` itself: "false" is true, too, to those who only look whether something is there.
    verified = isinstance(email, str) and claims.get("email_verified") is True
    return Person(provider.issuer, subject, str(email) if verified else "")


def _claims(provider: SignInProvider, there: Endpoints, token: str) -> dict[str, Any]:
    """The claims of an id token that one of the provider's keys has signed. The key decides the algorithm."""
    try:
        header = jwt.get_unverified_header(token)
    except jwt.InvalidTokenError as error:
        raise ProviderFailed("The id token is none.") from error
    kid = header.get("kid")
    for key in key_sets.keys(provider.pk, there.jwks, kid):
        if key.algorithm != header.get("alg") or (kid is not None and key.kid not in (None, kid)):
            continue
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm],
                audience=provider.client_id,
                issuer=provider.issuer,
                leeway=LEEWAY,
                options={"require": REQUIRED},
            )
        except jwt.InvalidSignatureError:
            continue
        except jwt.InvalidTokenError as error:
            raise ProviderFailed(f"The id token is not valid: {error}.") from error
        return claims
    raise ProviderFailed("None of the provider's keys has signed the id token.")


def _read(issuer: str, document: dict[str, Any]) -> Endpoints:
    if document.get("issuer") != issuer:
        raise ProviderFailed(f"It says that its issuer is {str(document.get('issuer'))[:200]!r}.")
    addresses = []
    for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
        address = document.get(name)
        try:
            outbound.target_of(str(address), allow_private=settings.ALLOW_PRIVATE_KEY_SERVERS)
        except outbound.FetchFailed as error:
            raise ProviderFailed(f"Its {name} cannot be used. {error}") from error
        addresses.append(str(address))
    ways = document.get("token_endpoint_auth_methods_supported")
    takes_basic = not isinstance(ways, list) or "client_secret_basic" in ways
    names_itself = document.get("authorization_response_iss_parameter_supported") is True
    authorization, token, jwks = addresses
    return Endpoints(authorization, token, jwks, takes_basic, names_itself)


def _document(
    url: str, form: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    if not _places.acquire(timeout=3):
        raise ProviderFailed("Too many sign-ins wait for providers at the moment.")
    try:
        allowed = settings.ALLOW_PRIVATE_KEY_SERVERS
        document = json.loads(outbound.fetch(url, form=form, headers=headers, allow_private=allowed))
    except outbound.FetchFailed as error:
        raise ProviderFailed(str(error)) from error
    except (ValueError, RecursionError) as error:
        raise ProviderFailed("What it answers is not JSON.") from error
    finally:
        _places.release()
    if not isinstance(document, dict):
        raise ProviderFailed("What it answers is not a JSON object.")
    return document


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _refused(why: str) -> Problem:
    return Problem(Code.NOT_AUTHENTICATED, why)
