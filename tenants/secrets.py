"""How text is sealed before it is stored, and opened again. One door for everything that people wrote.

What is stored says which key sealed it:

    <2><16 bytes: id of the key><12 bytes: nonce><AES-256-GCM of the text, with its tag>
    <1><4>null<the text>                        in the clear, and it says so

Bound to what is sealed (as associated data) are the tenant, the column and the row: a value that somebody has moved to
another row, column or tenant is not opened. The keys come from `tenants.keyring`.
"""

from __future__ import annotations

import os
from typing import Protocol
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from chatplatform import tenancy

IN_THE_CLEAR = b"\x01\x04null"
NONCE = 12  # bytes
HEADER = 1 + 16 + NONCE
OVERHEAD = HEADER + 16  # bytes that a sealed text is longer


class Keyring(Protocol):
    """Where keys come from, in the current context."""

    def to_seal(self, owner: UUID | None) -> tuple[bytes, AESGCM] | None:
        """The id (16 bytes) and the key for texts of this contact, or of nobody in particular; None if the tenant
        keeps its texts in the clear. Raises UnknownKey: the contact is erased."""

    def to_open(self, key_id: bytes) -> AESGCM:
        """The key with this id. Raises UnknownKey."""


class UnknownKey(LookupError):
    """Text was sealed under a key that is not here any more (erased), or is to be for somebody who is erased."""


class Tampered(ValueError):
    """Stored text was changed, or is not where it was written."""


_keyring: Keyring | None = None


def keys_from(keyring: Keyring) -> None:
    """Have keys looked up there."""
    global _keyring
    _keyring = keyring


def seal(text: str, column: bytes, row: object, owner: UUID | None) -> bytes:
    """What to store for a text in this column (`table.column`) of this row. Raises UnknownKey."""
    if not text or (found := _keys().to_seal(owner)) is None:
        return IN_THE_CLEAR + text.encode()
    key_id, key = found
    nonce = os.urandom(NONCE)
    return b"".join((b"\x02", key_id, nonce, key.encrypt(nonce, text.encode(), _bound_to(column, row))))


def open_sealed(stored: bytes, column: bytes, row: object) -> str:
    """The text that was stored there. Raises UnknownKey, Tampered, or ValueError if it was never sealed by us."""
    if stored[:1] != b"\x02":
        sealed_with(stored)
        return stored[len(IN_THE_CLEAR) :].decode()
    key = _keys().to_open(stored[1:17])
    try:
        return key.decrypt(stored[17:HEADER], stored[HEADER:], _bound_to(column, row)).decode()
    except InvalidTag:
        raise Tampered(f"{column.decode()} of {row} was changed or moved.") from None


def sealed_with(stored: bytes) -> UUID | None:
    """The id of the key that sealed this; None if it is in the clear. Raises ValueError: it was never sealed by us."""
    if stored[:1] == b"\x02" and len(stored) >= OVERHEAD:
        return UUID(bytes=stored[1:17])
    if not stored.startswith(IN_THE_CLEAR):
        raise ValueError("This was not stored by chatplatform's text field.")
    return None


def _keys() -> Keyring:
    assert _keyring is not None, "set when the tenants app is ready"
    return _keyring


def _bound_to(column: bytes, row: object) -> bytes:
    tenant = tenancy.current_scope().tenant
    of = tenant.id.bytes if tenant else b"platform"
    return b"\0".join((of, column, str(row).encode()))
