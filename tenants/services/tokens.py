"""Making tokens for end users: JWTs that the platform signs (CONTRACT §4)."""

from __future__ import annotations

import time
import uuid

import jwt
from django.conf import settings

from tenants.models import Contact
from tenants.selectors import TenantState
from tenants.services import signing_keys
from tenants.vocabulary import Scope

AUDIENCE = "chatplatform"
USUAL, SHORTEST, LONGEST = 3600, 60, signing_keys.LONGEST_TOKEN  # s
BY = "key"  # the claim that names the API key which asked for the token


def issue(tenant: TenantState, contact: Contact, *, by: str, lifetime: int = USUAL) -> str:
    """A token for one contact, good for `lifetime` seconds, or until the API key `by` (its public id) is gone."""
    signer, now = signing_keys.signer(), int(time.time())
    claims = {
        "iss": settings.TOKEN_ISSUER,
        "aud": AUDIENCE,
        "sub": str(contact.pk),
        "tenant": tenant.ref.slug,
        "scope": str(Scope.CHAT),
        "iat": now,
        "nbf": now,
        "exp": now + lifetime,
        "jti": uuid.uuid4().hex,
        BY: by,
    }
    return jwt.encode(claims, signer.key, signing_keys.ALGORITHM, headers={"kid": signer.kid})
