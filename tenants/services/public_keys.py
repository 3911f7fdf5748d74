"""Public keys of others: read strictly, each bound to the one algorithm that it is good for.

A token does not choose how it is checked: that follows from the key alone, so neither `none` nor a public key taken for
a shared secret can pass.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import InvalidKeyError

KINDS: dict[str, Any] = {"RSA": RSAAlgorithm, "EC": ECAlgorithm, "OKP": OKPAlgorithm}
RSA_BITS = range(2048, 8193)
PRIVATE = {"d", "p", "q", "k"}
MOST = 50  # keys of one issuer
LONGEST_ID = 200
LONGEST_MODULUS = 1400  # letters of base64: 8192 bits, and a little
PARTS = ("kty", "kid", "n", "e", "crv", "x", "y")  # what makes a public key
KINDS_ALLOWED = "RSA with 2048 to 8192 bits, EC on the curve P-256, or Ed25519."


class NotAKey(ValueError):
    """This is no public key that a token may be checked with; the text says why."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key, the one algorithm that it is for, and the id that tokens name it by, if it has one."""

    kid: str | None
    algorithm: str
    key: Any


def from_jwk(jwk: Any) -> PublicKey:
    """The key of a JWK. Raises NotAKey."""
    if not isinstance(jwk, dict) or not isinstance(jwk.get("kty"), str) or jwk["kty"] not in KINDS:
        raise NotAKey("Only public RSA, EC and Ed25519 keys can be used.")
    if PRIVATE & jwk.keys():
        raise NotAKey("This is a private key: keep it to yourself, and give its public half.")
    operations = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        raise NotAKey("This key is not for signatures.")
    kid = jwk.get("kid")
    if kid is not None and not (isinstance(kid, str) and 0 < len(kid) <= LONGEST_ID and kid.isprintable()):
        raise NotAKey("Its `kid` must be a line of text.")
    if len(str(jwk.get("n", ""))) > LONGEST_MODULUS:
        raise NotAKey(KINDS_ALLOWED)
    try:
        key = KINDS[jwk["kty"]].from_jwk(jwk)
    except (InvalidKeyError, ValueError, TypeError) as error:
        raise NotAKey("It is not a valid JWK.") from error
    algorithm = _algorithm(key)
    if jwk.get("alg", algorithm) != algorithm:
        raise NotAKey(f"A key of this kind is used with {algorithm} here, not with what its `alg` says.")
    return PublicKey(kid, algorithm, key)


def usable_in(document: Any) -> tuple[PublicKey, ...]:
    """The keys of a JWKS document that can be used; others in it are somebody else's business. Raises NotAKey."""
    jwks = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(jwks, list):
        raise NotAKey("It is not a JWKS document: an object with a list `keys`.")
    found = []
    for jwk in jwks[:MOST]:
        try:
            found.append(from_jwk(jwk))
        except NotAKey:
            continue
    return tuple(found)


def as_jwks(text: str) -> list[dict[str, Any]]:
    """What a person gave as public keys (PEM, a JWK, or a JWKS document) as JWKs. Raises NotAKey."""
    if text.lstrip().startswith("-----"):
        return [_jwk_of_pem(text)]
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotAKey("Neither PEM nor JSON.") from error
    jwks = document.get("keys", [document]) if isinstance(document, dict) else None
    if not isinstance(jwks, list) or not 0 < len(jwks) <= MOST:
        raise NotAKey(f"A JWK, or a JWKS document with up to {MOST} keys.")
    for jwk in jwks:
        from_jwk(jwk)
    return [{name: jwk[name] for name in PARTS if name in jwk} for jwk in jwks]


def _jwk_of_pem(text: str) -> dict[str, Any]:
    if "PRIVATE KEY" in text:
        raise NotAKey("This is a private key: keep it to yourself, and give its public half.")
    try:
        key: Any = serialization.load_pem_public_key(text.strip().encode())
    except Exception as error:  # the library raises several kinds
        raise NotAKey("It is not a public key in PEM form.") from error
    algorithm = _algorithm(key)
    kind: Any = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}[algorithm]
    jwk: dict[str, Any] = kind.to_jwk(key, as_dict=True)
    return {name: jwk[name] for name in PARTS if name in jwk}


def _algorithm(key: Any) -> str:
    if isinstance(key, rsa.RSAPublicKey) and key.key_size in RSA_BITS:
        return "RS256"
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return "ES256"
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "EdDSA"
    raise NotAKey(KINDS_ALLOWED)
