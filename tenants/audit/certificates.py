"""Certificates of erasure: what was removed and when, signed with a key that the database never sees.

They hold ids, numbers and digests, nothing personal, and are kept in the audit log.
"""

from __future__ import annotations

import hmac
from typing import Any

import orjson
from django.utils import timezone

from tenants.audit import keys


def made(kind: str, **content: Any) -> dict[str, Any]:
    """A certificate of this content (plain JSON), signed."""
    key = keys.current()
    content |= {"certificate": f"erasure of a {kind}", "erased_at": timezone.now().isoformat(), "key": key.id}
    return {**content, "signature": _signature(key, content)}


def is_genuine(certificate: dict[str, Any]) -> bool:
    """Whether we have signed it, just so."""
    content = {name: value for name, value in certificate.items() if name != "signature"}
    key = keys.known().get(str(content.get("key")))
    if key is None:
        return False
    return hmac.compare_digest(_signature(key, content), str(certificate.get("signature")))


def _signature(key: keys.Key, content: dict[str, Any]) -> str:
    return keys.sign(key.certificates, orjson.dumps(content, option=orjson.OPT_SORT_KEYS))
