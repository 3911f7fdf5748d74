"""The keys that the platform signs its tokens with, and how one takes over from another.

Whoever checks our tokens elsewhere may keep the list of keys for `CACHED_FOR`. So a key is published as `next` for
longer than that before it signs, and as `previous` until the last token that it signed is over.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock
from typing import Any

from cachetools import TTLCache
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.db import connection, transaction
from django.utils import timezone
from jwt.algorithms import RSAAlgorithm

from chatplatform import tenancy
from tenants import audit, control
from tenants.models import SigningKey
from tenants.selectors import FRESH_SECONDS
from tenants.vocabulary import AuditAction
from tenants.vocabulary import SigningKeyState as State

ALGORITHM = "RS256"
BITS = 2048
LONGEST_TOKEN = 86_400  # s
LEEWAY = 10  # s by which clocks may differ
CACHED_FOR = 300  # s that others may keep the list of keys
MARGIN = 60  # s for processes that have not heard of a change, and for clocks
PUBLISHED_FOR = timedelta(seconds=CACHED_FOR + MARGIN)
KEPT_FOR = timedelta(seconds=LONGEST_TOKEN + LEEWAY + MARGIN)
LOCK = 0x63706B65  # "cpke": one rotation at a time


@dataclass(frozen=True, slots=True)
class Published:
    """The keys that tokens are checked with: by id, and as the document for others."""

    keys: dict[str, rsa.RSAPublicKey]
    document: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Signer:
    """The key that signs."""

    kid: str
    key: rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a rotation did, and how it is now."""

    did: list[str]
    current: str
    next: str
    next_may_sign_at: datetime
    previous: list[str]


_published: TTLCache[None, Published] = TTLCache(1, FRESH_SECONDS)
_signer: TTLCache[None, Signer] = TTLCache(1, FRESH_SECONDS)
_lock = Lock()


def published() -> Published:
    """Next, current and previous keys; the first ones are made when there are none yet."""
    with _lock:
        if (kept := _published.get(None)) is not None:
            return kept
    found = _read_published()
    if not found.keys:
        rotate()
        found = _read_published()
    with _lock:
        _published[None] = found
    return found


def is_published(kid: str) -> bool:
    """Whether tokens that this key signed are good."""
    return kid in published().keys


def signer() -> Signer:
    """The current key."""
    with _lock:
        if (kept := _signer.get(None)) is not None:
            return kept
    with tenancy.in_platform():
        if (row := SigningKey.objects.filter(state=State.CURRENT).first()) is None:
            rotate()
            row = SigningKey.objects.get(state=State.CURRENT)
    key = serialization.load_pem_private_key(row.private_pem.encode(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    found = Signer(row.kid, key)
    with _lock:
        _signer[None] = found
    return found


def forget() -> None:
    """Drop what is kept of the keys."""
    with _lock:
        _published.clear()
        _signer.clear()


def rotate(*, compromised: bool = False) -> Rotation:
    """Do what is due: retire keys whose tokens are over, let the next key sign if it is known everywhere, and publish
    another one. Doing it again changes nothing until something is due.

    With `compromised` no key of before is worth anything from now on (the next one was stored beside the others), nor
    are their tokens; new ones sign, although others may not have seen them yet.
    """
    with tenancy.in_platform(), transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        did = _rotate(timezone.now(), compromised)
        if did:
            audit.record(AuditAction.SIGNING_KEYS_ROTATED, compromised=compromised, did=did)
        rows = list(SigningKey.objects.exclude(state=State.RETIRED).defer("private_pem"))
    if did:
        control.signing_keys_changed()
    by_state = {row.state: row for row in rows}
    return Rotation(
        did,
        by_state[State.CURRENT].kid,
        by_state[State.NEXT].kid,
        by_state[State.NEXT].published_at + PUBLISHED_FOR,
        [row.kid for row in rows if row.state == State.PREVIOUS],
    )


def _rotate(now: datetime, compromised: bool) -> list[str]:
    did = []
    over = (
        SigningKey.objects.exclude(state=State.RETIRED)
        if compromised
        else SigningKey.objects.filter(state=State.PREVIOUS, replaced_at__lte=now - KEPT_FOR)
    )
    for key in over:
        _move(key, State.RETIRED, retired_at=now)
        did.append(f"{key.kid} is retired")
    following = SigningKey.objects.filter(state=State.NEXT).first() or _make()
    current = SigningKey.objects.filter(state=State.CURRENT).first()
    if current is None or following.published_at <= now - PUBLISHED_FOR:
        if current is not None:
            _move(current, State.PREVIOUS, replaced_at=now)
            did.append(f"{current.kid} signs no more, and is kept to check what it signed")
        _move(following, State.CURRENT, signs_from=now)
        did.append(f"{following.kid} signs")
    if not SigningKey.objects.filter(state=State.NEXT).exists():
        did.append(f"{_make().kid} is published as the next one")
    return did


def _move(key: SigningKey, state: State, **times: datetime) -> None:
    key.state = state
    if state in (State.PREVIOUS, State.RETIRED):
        key.private_pem = ""
    for name, time in times.items():
        setattr(key, name, time)
    key.save(update_fields=["state", "private_pem", *times])


def _make() -> SigningKey:
    secret = _new_secret()
    kid = secrets.token_hex(8)
    public = RSAAlgorithm.to_jwk(secret.public_key(), as_dict=True)
    pem = secret.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return SigningKey.objects.create(
        kid=kid,
        public_jwk={
            "kty": "RSA",
            "use": "sig",
            "alg": ALGORITHM,
            "kid": kid,
            "n": public["n"],
            "e": public["e"],
        },
        private_pem=pem.decode(),
    )


def _new_secret() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=BITS)


def _read_published() -> Published:
    with tenancy.in_platform():
        rows = SigningKey.objects.exclude(state=State.RETIRED).values_list("kid", "public_jwk")
        jwks = dict(rows)
    keys: dict[str, Any] = {kid: RSAAlgorithm.from_jwk(jwk) for kid, jwk in jwks.items()}
    return Published(keys, {"keys": list(jwks.values())})
