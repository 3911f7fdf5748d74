"""The keys of the audit log, all made out of one secret that the database never sees.

A key is known by an id that is made out of it, too: nobody has to name keys, and a new secret is a new id.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from functools import lru_cache

from django.conf import settings

PURPOSES = ("entries", "heads", "digests", "certificates")


@dataclass(frozen=True, slots=True)
class Key:
    """One generation of keys, each for one purpose: entries, heads and anchors, what is only kept as a digest, and
    certificates."""

    id: str
    entries: bytes
    heads: bytes
    digests: bytes
    certificates: bytes


def current() -> Key:
    """The key that is written with."""
    return _made(settings.AUDIT_SECRET)


def known() -> dict[str, Key]:
    """All keys that may be read with, by their ids: the current one and those it replaced."""
    secrets = [*settings.AUDIT_OLD_SECRETS.split(), settings.AUDIT_SECRET]
    return {key.id: key for key in map(_made, secrets)}


def digest(text: str) -> dict[str, str | int]:
    """What the log keeps of a text that it must not hold: a keyed hash, to compare with, and the length."""
    return {"hash": short_hash(text), "length": len(text)}


def short_hash(text: str) -> str:
    """The keyed hash alone: 16 hex digits."""
    return sign(current().digests, text.encode(errors="replace"))[:16]


def sign(key: bytes, content: bytes) -> str:
    """HMAC-SHA-256, as 64 hex digits."""
    return hmac.digest(key, content, "sha256").hex()


@lru_cache(maxsize=16)
def _made(secret: str) -> Key:
    def derived(purpose: str) -> bytes:
        return hmac.digest(secret.encode(), f"chatplatform audit {purpose}".encode(), "sha256")

    return Key(derived("id").hex()[:8], *map(derived, PURPOSES))
