"""How text is sealed before it is stored. One door, so that a cipher can come without touching a table.

What is stored always says which key sealed it: `<version byte><length of key id><key id><payload>`. Until keys
exist the key id is "null" and the payload is the plain text: the row itself says that it is not encrypted.
"""

from __future__ import annotations

from typing import Protocol

VERSION = 1


class Cipher(Protocol):
    """Seals and opens bytes under keys that it names."""

    key_id: str

    def seal(self, plain: bytes) -> bytes: ...

    def open(self, payload: bytes) -> bytes: ...


class NullCipher:
    """Seals nothing, and says so by its key id."""

    key_id = "null"

    def seal(self, plain: bytes) -> bytes:
        return plain

    def open(self, payload: bytes) -> bytes:
        return payload


class UnknownKey(LookupError):
    """Stored text was sealed under a key that is not here any more (erased) or not yet."""


_current: Cipher = NullCipher()
_ciphers: dict[str, Cipher] = {_current.key_id: _current}


def seal(text: str) -> bytes:
    """What to store for a text."""
    key_id = _current.key_id.encode()
    return bytes([VERSION, len(key_id)]) + key_id + _current.seal(text.encode())


def open_sealed(stored: bytes) -> str:
    """The text that was sealed. Raises UnknownKey, or ValueError if this was never sealed by us."""
    key_id = sealed_with(stored)
    cipher = _ciphers.get(key_id)
    if cipher is None:
        raise UnknownKey(key_id)
    return cipher.open(stored[2 + len(key_id.encode()) :]).decode()


def sealed_with(stored: bytes) -> str:
    """The id of the key that sealed this."""
    if len(stored) < 2 or stored[0] != VERSION:
        raise ValueError("This was not stored by chatplatform's text field.")
    return stored[2 : 2 + stored[1]].decode()
