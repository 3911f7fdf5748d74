"""A stand-in for an OpenID provider: a real HTTP server that does the code flow with PKCE, and signs with real keys.

It refuses what a strict provider would refuse: addresses and clients that are not registered, a code twice, a wrong
verifier or secret. Whoever comes is `person`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote, urlencode, urlsplit

import jwt

from chatplatform.testing.backend import Pair, pair
from chatplatform.testing.serving import serving

Answer = tuple[int, dict[str, str], bytes]


class Refused(Exception):
    """What the protocol does not allow; `str` is the error's name."""


@dataclass
class OidcStandIn:
    """What the provider knows, and what a test may change."""

    issuer: str = ""
    client_id: str = "console"
    client_secret: str = "s3cret/with:colon"
    redirect_uris: set[str] = field(default_factory=set)
    key: Pair = field(default_factory=lambda: pair("RS256", "provider"))
    person: dict[str, Any] = field(
        default_factory=lambda: {"sub": "u-17", "email": "ada@example.com", "email_verified": True}
    )
    basic: bool = True  # whether clients give their secret in a header or in the form
    document: dict[str, Any] = field(default_factory=dict)  # laid over what it says of itself
    twist: Callable[[dict[str, Any]], Any] = lambda claims: None  # done to the claims before they are signed
    asked: list[str] = field(default_factory=list)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)

    # --- The protocol --------------------------------------------------------------------------------------------
    def answer(self, path: str, query: str, form: dict[str, str], authorization: str) -> Answer:
        """One request."""
        self.asked.append(path)
        try:
            if path == "/.well-known/openid-configuration":
                return _json(200, {**self._configuration(), **self.document})
            if path == "/jwks":
                return _json(200, {"keys": [self.key.jwk]})
            if path == "/authorize":
                return 302, {"Location": self._authorize(dict(parse_qsl(query)))}, b""
            if path == "/token":
                return _json(200, self._token(form, authorization))
        except Refused as error:
            return _json(400, {"error": str(error)})
        return _json(404, {"error": "not_found"})

    def _configuration(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            "response_types_supported": ["code"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": [f"client_secret_{'basic' if self.basic else 'post'}"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
        }

    def _authorize(self, asked: dict[str, str]) -> str:
        if asked.get("client_id") != self.client_id or asked.get("redirect_uri") not in self.redirect_uris:
            raise Refused("invalid_request")
        if asked.get("response_type") != "code" or "openid" not in asked.get("scope", "").split():
            raise Refused("invalid_scope")
        if asked.get("code_challenge_method") != "S256" or len(asked.get("code_challenge", "")) != 43:
            raise Refused("invalid_request")
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        back = {"code": code, "state": asked["state"], "iss": self.issuer}
        return f"{asked['redirect_uri']}?{urlencode(back)}"

    def _token(self, form: dict[str, str], authorization: str) -> dict[str, Any]:
        given = (form.get("client_id", ""), form.get("client_secret", ""))
        if self.basic:
            plain = base64.b64decode(authorization.removeprefix("Basic ")).decode()
            given = tuple(unquote(part) for part in plain.split(":", 1))  # type: ignore[assignment]
        if given != (self.client_id, self.client_secret):
            raise Refused("invalid_client")
        asked = self.codes.pop(form.get("code", ""), None)
        if form.get("grant_type") != "authorization_code" or asked is None:
            raise Refused("invalid_grant")
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if asked["redirect_uri"] != form.get("redirect_uri") or asked["code_challenge"] != challenge:
            raise Refused("invalid_grant")
        return {"access_token": "opaque", "token_type": "Bearer", "id_token": self._id_token(asked)}

    def _id_token(self, asked: dict[str, str]) -> str:
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": self.client_id,
            "iat": now,
            "exp": now + 300,
            "nonce": asked.get("nonce"),
            **self.person,
        }
        self.twist(claims)
        # Not jwt.encode, which refuses claims that are wrong: here they are wrong on purpose.
        body = json.dumps(claims).encode()
        return jwt.PyJWS().encode(body, self.key.secret, self.key.algorithm, headers={"kid": self.key.kid})


def _json(status: int, document: Any) -> Answer:
    return status, {"Content-Type": "application/json"}, json.dumps(document).encode()


@contextmanager
def running_provider() -> Iterator[OidcStandIn]:
    """A provider on a port of its own."""
    served = OidcStandIn()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            form = {name: values[0] for name, values in parse_qs(body).items()}
            status, headers, answer = served.answer(
                parts.path, parts.query, form, self.headers.get("Authorization", "")
            )
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(answer))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    with serving(Handler) as port:
        served.issuer = f"http://127.0.0.1:{port}"
        yield served
