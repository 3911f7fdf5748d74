"""A tenant's backend that signs for its end users: key pairs, tokens, and a real server that publishes its keys."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler
from typing import Any
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from chatplatform.testing.serving import serving

KINDS: dict[str, tuple[Callable[[], Any], Any]] = {
    "RS256": (lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048), RSAAlgorithm),
    "ES256": (lambda: ec.generate_private_key(ec.SECP256R1()), ECAlgorithm),
    "EdDSA": (ed25519.Ed25519PrivateKey.generate, OKPAlgorithm),
}


@dataclass(frozen=True)
class Pair:
    """A key pair."""

    algorithm: str
    kid: str
    secret: Any

    @property
    def jwk(self) -> dict[str, Any]:
        """The public half."""
        public: dict[str, Any] = KINDS[self.algorithm][1].to_jwk(self.secret.public_key(), as_dict=True)
        return {**public, "kid": self.kid, "alg": self.algorithm, "use": "sig"}

    @property
    def pem(self) -> str:
        """The public half."""
        encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        return str(self.secret.public_key().public_bytes(encoding, form).decode())


@cache
def pair(algorithm: str = "RS256", kid: str = "one") -> Pair:
    """The key pair of this name: an RSA key takes long to make, so there is one for all tests."""
    return Pair(algorithm, kid, KINDS[algorithm][0]())


def signed(
    key: Pair, issuer: str, tenant: str, sub: str, headers: dict[str, Any] | None = None, **claims: Any
) -> str:
    """A token of a backend's, good for a minute unless the claims say otherwise; None leaves a claim out."""
    now = int(time.time())
    said = {
        "iss": issuer,
        "aud": "chatplatform",
        "sub": sub,
        "tenant": tenant,
        "iat": now,
        "exp": now + 60,
        "jti": uuid4().hex,
        **claims,
    }
    said = {name: value for name, value in said.items() if value is not None}
    named = {"kid": key.kid} if headers is None else headers
    # Not jwt.encode, which refuses claims that are wrong: here they are wrong on purpose.
    return jwt.PyJWS().encode(json.dumps(said).encode(), key.secret, key.algorithm, headers=named)


@dataclass
class KeyServer:
    """A running server. `answer` writes what it says to a request; `asked` counts the requests."""

    port: int = 0
    keys: list[dict[str, Any]] = field(default_factory=list)
    asked: int = 0
    answer: Callable[[BaseHTTPRequestHandler], None] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/jwks.json"


@contextmanager
def running_key_server(*keys: Pair) -> Iterator[KeyServer]:
    """A server of these keys, on a port of its own."""
    served = KeyServer(keys=[key.jwk for key in keys])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked += 1
            if served.answer is not None:
                served.answer(self)
                return
            body = json.dumps({"keys": served.keys}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with serving(Handler) as port:
        served.port = port
        yield served
