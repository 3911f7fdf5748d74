"""The master key, which wraps the tenants' keys and never is in the database.

`MASTER_KEY_SERVICE` names a class with the methods of `MasterKeys`. The one here takes the key from the environment or
a file; another one may ask a key management service, which then does the wrapping itself.
"""

from __future__ import annotations

import hmac
import os
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings
from django.utils.module_loading import import_string

from chatplatform.observability.secrets import hide_also

NONCE = 12  # bytes


class MasterKeyMissing(RuntimeError):
    """A key was wrapped under a master key that is not here, or by another one of the same name."""


class MasterKeys(Protocol):
    """Wraps and unwraps 32 bytes. `about` is not secret, and must be the same both times."""

    def current(self) -> str:
        """The id of the key that wraps now."""

    def wrap(self, plain: bytes, about: bytes) -> tuple[str, bytes]:
        """The id of the key that wraps now, and wrapped under it."""

    def unwrap(self, id: str, wrapped: bytes, about: bytes) -> bytes:
        """Unwrapped by the key with this id. Raises MasterKeyMissing."""


class FromSettings:
    """`MASTER_KEY` wraps; what `MASTER_OLD_KEYS` wrapped is still unwrapped. A key's id is made out of it.

    Keys in files are read each time, which is seldom: a process that runs takes on a new one without a restart.
    """

    def current(self) -> str:
        return _made(_current())[0]

    def wrap(self, plain: bytes, about: bytes) -> tuple[str, bytes]:
        nonce, (id, key) = os.urandom(NONCE), _made(_current())
        return id, nonce + key.encrypt(nonce, plain, about)

    def unwrap(self, id: str, wrapped: bytes, about: bytes) -> bytes:
        known = dict(map(_made, [*_old(), _current()]))
        try:
            return known[id].decrypt(wrapped[:NONCE], wrapped[NONCE:], about)
        except (KeyError, InvalidTag):
            raise MasterKeyMissing(f"The master key {id} is needed, and is not here.") from None


def master_keys() -> MasterKeys:
    """Those of this installation."""
    found: MasterKeys = _instance(settings.MASTER_KEY_SERVICE)
    return found


def _current() -> str:
    return _read(settings.MASTER_KEY_AT) or str(settings.MASTER_KEY)


def _old() -> list[str]:
    return [*settings.MASTER_OLD_KEYS.split(), *_read(settings.MASTER_OLD_KEYS_AT).split()]


def _read(file: Path | None) -> str:
    """What a file has now; nothing if it is not there, or is just being written."""
    try:
        text = file.read_text().strip() if file else ""
    except OSError:
        return ""
    for secret in text.split():
        hide_also(secret)
    return text


@lru_cache(4)
def _instance(name: str) -> MasterKeys:
    made: MasterKeys = import_string(name)()
    return made


@lru_cache(16)
def _made(secret: str) -> tuple[str, AESGCM]:
    def derived(purpose: str) -> bytes:
        return hmac.digest(secret.encode(), f"chatplatform master {purpose}".encode(), "sha256")

    return derived("id").hex()[:8], AESGCM(derived("key"))
