"""The master key, which wraps the tenants' keys and never is in the database.

`MASTER_KEY_SERVICE` names a class with the methods of `MasterKeys`. The one here takes the key from the environment or
a file; another one may ask a key management service, which then does the wrapping itself.
"""

from __future__ import annotations

import hmac
import os
from functools import lru_cache
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings
from django.utils.module_loading import import_string

NONCE = 12  # bytes


class MasterKeyMissing(RuntimeError):
    """A key was wrapped under a master key that is not here, or by another one of the same name."""


class MasterKeys(Protocol):
    """Wraps and unwraps 32 bytes. `about` is not secret, and must be the same both times."""

    def current(self) -> str:
        """The id of the key that wraps now."""

    def wrap(self, plain: bytes, about: bytes) -> bytes:
        """Wrapped under the current key."""

    def unwrap(self, id: str, wrapped: bytes, about: bytes) -> bytes:
        """Unwrapped by the key with this id. Raises MasterKeyMissing."""


class FromSettings:
    """`MASTER_KEY` wraps; what `MASTER_OLD_KEYS` wrapped is still unwrapped. A key's id is made out of it."""

    def current(self) -> str:
        return _made(settings.MASTER_KEY)[0]

    def wrap(self, plain: bytes, about: bytes) -> bytes:
        nonce = os.urandom(NONCE)
        return nonce + _made(settings.MASTER_KEY)[1].encrypt(nonce, plain, about)

    def unwrap(self, id: str, wrapped: bytes, about: bytes) -> bytes:
        known = dict(map(_made, [*settings.MASTER_OLD_KEYS.split(), settings.MASTER_KEY]))
        try:
            return known[id].decrypt(wrapped[:NONCE], wrapped[NONCE:], about)
        except (KeyError, InvalidTag):
            raise MasterKeyMissing(f"The master key {id} is needed, and is not here.") from None


def master_keys() -> MasterKeys:
    """Those of this installation."""
    found: MasterKeys = _instance(settings.MASTER_KEY_SERVICE)
    return found


@lru_cache(4)
def _instance(name: str) -> MasterKeys:
    made: MasterKeys = import_string(name)()
    return made


@lru_cache(16)
def _made(secret: str) -> tuple[str, AESGCM]:
    def derived(purpose: str) -> bytes:
        return hmac.digest(secret.encode(), f"chatplatform master {purpose}".encode(), "sha256")

    return derived("id").hex()[:8], AESGCM(derived("key"))
