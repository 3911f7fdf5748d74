"""An authenticator in software: makes passkeys and signs with them, as a browser hands it on."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from fido2.cose import ES256
from fido2.utils import sha256, websafe_encode
from fido2.webauthn import AttestationObject, AttestedCredentialData, AuthenticatorData, CollectedClientData

_cose: Any = ES256.from_cryptography_key
SEEN = AuthenticatorData.FLAG.UP | AuthenticatorData.FLAG.UV


@dataclass
class Passkey:
    """One passkey in a browser at a page of this origin. `counter` is what it says next; None: it does not count."""

    origin: str
    counter: int | None = 1
    id: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    secret: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    def made(self, options: dict[str, Any]) -> str:
        """What the browser answers to the options of a page that asks for a new one."""
        public = AttestedCredentialData.create(b"\0" * 16, self.id, _cose(self.secret.public_key()))
        data = AuthenticatorData.create(
            self._rp(), SEEN | AuthenticatorData.FLAG.AT, self._count(), bytes(public)
        )
        told = self._client_data("webauthn.create", options)
        return self._answer(
            clientDataJSON=websafe_encode(told),
            attestationObject=websafe_encode(AttestationObject.create("none", data, {})),
        )

    def signed(self, options: dict[str, Any]) -> str:
        """What the browser answers to the options of a page that asks for it."""
        told = self._client_data("webauthn.get", options)
        data = AuthenticatorData.create(self._rp(), SEEN, self._count())
        signature = self.secret.sign(bytes(data) + sha256(told), ec.ECDSA(hashes.SHA256()))
        return self._answer(
            clientDataJSON=websafe_encode(told),
            authenticatorData=websafe_encode(data),
            signature=websafe_encode(signature),
        )

    def _rp(self) -> bytes:
        return sha256((urlsplit(self.origin).hostname or "").encode())

    def _count(self) -> int:
        if self.counter is None:
            return 0
        self.counter += 1
        return self.counter - 1

    def _client_data(self, kind: str, options: dict[str, Any]) -> bytes:
        return CollectedClientData.create(kind, options["challenge"], self.origin)

    def _answer(self, **response: str) -> str:
        id = websafe_encode(self.id)
        return json.dumps({"id": id, "rawId": id, "type": "public-key", "response": response})
