"""Making, checking and revoking API keys."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import zlib
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.asyncio import async_unsafe

from chatplatform import tenancy
from chatplatform.api.fields import one_line
from chatplatform.api.problem import Code, Problem, invalid
from chatplatform.kept import Kept
from chatplatform.postgres.prepared import Statement
from tenants import audit, control
from tenants.models import ApiKey, Tenant
from tenants.selectors import FRESH_SECONDS
from tenants.vocabulary import AuditAction, Scope

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SHAPE = re.compile(r"cp_([a-z0-9]{1,20})_([0-9A-Za-z]{12})_([0-9A-Za-z]{32})([0-9A-Za-z]{6})")
DURATION = re.compile(r"(\d{1,5})([smhdw])")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
MARK = Statement("""
    SELECT key.xmin, key.ctid, tenant.xmin, tenant.ctid
    FROM tenants_apikey AS key LEFT JOIN tenants_tenant AS tenant ON tenant.id = key.tenant_id
    WHERE key.public_id = %(public_id)s
""")
used: set[str] = set()  # ids of keys that were accepted; tenants.services.api_key_uses writes them down


def create(
    tenant: Tenant | None, scopes: Iterable[str], *, expires_in: timedelta | None = None, name: str = ""
) -> tuple[ApiKey, str]:
    """A new key: its row, and the key itself, which is never seen again. Without a tenant: a platform key.

    Raises Problem for an unknown scope, `platform` on a tenant's key or none on a platform key, and a wrong name.
    """
    wanted = list(dict.fromkeys(scopes))
    if not wanted or set(wanted) - set(Scope.values):
        raise invalid("scopes", f"At least one of {', '.join(Scope.values)}.")
    if tenant and Scope.PLATFORM in wanted:
        raise invalid("scopes", "The scope platform is for platform keys.")
    if tenant is None and Scope.PLATFORM not in wanted:
        raise invalid("scopes", "A platform key needs the scope platform.")
    one_line("name", name)
    return _make(tenant, wanted, name, timezone.now() + expires_in if expires_in else None)


def _make(
    tenant: Tenant | None, scopes: list[str], name: str, expires_at: datetime | None
) -> tuple[ApiKey, str]:
    public_id, secret = _random(12), _random(32)
    start = f"cp_{settings.ENVIRONMENT}_{public_id}_{secret}"
    shown = start + _checksum(start)
    with tenancy.in_platform(), transaction.atomic():
        key = ApiKey.objects.create(
            tenant=tenant,
            name=name,
            public_id=public_id,
            secret_hash=_hash(shown),
            scopes=scopes,
            expires_at=expires_at,
        )
        audit.record(
            AuditAction.KEY_CREATED, public_id, tenant=key.tenant_id, scopes=scopes, until=key.expires_at
        )
    return key, shown


def check(shown: str) -> ApiKey:
    """The row of a key that may be used now. Raises Problem `not_authenticated`, saying no more than that."""
    match = SHAPE.fullmatch(shown)
    if match is None:
        raise Problem(Code.NOT_AUTHENTICATED, headers={"WWW-Authenticate": "Bearer"})
    key = _kept.get(match[2])
    if key is None and _checksum(shown[:-6]) == match[4]:  # a typing error is not worth a query
        key = _read(match[2])
    if key is None or not key.usable or not hmac.compare_digest(bytes(key.secret_hash), _hash(shown)):
        raise Problem(Code.NOT_AUTHENTICATED, headers={"WWW-Authenticate": "Bearer"})
    used.add(key.public_id)
    return key


def rotate(public_id: str, overlap: timedelta) -> tuple[ApiKey, ApiKey, str]:
    """A new key like this one, which goes on for `overlap` beside it: the old row, the new row, the new key itself.

    The new one is good for as long as the old one was when it was made. Raises ApiKey.DoesNotExist, and Problem for a
    key that is revoked or expired.
    """
    now = timezone.now()
    with tenancy.in_platform(), transaction.atomic():
        old = ApiKey.objects.select_for_update(of=["self"]).select_related("tenant").get(public_id=public_id)
        if not old.usable:
            raise invalid("id", "This key is revoked or expired: make a new one.")
        expires_at = now + (old.expires_at - old.created_at) if old.expires_at else None
        new, shown = _make(old.tenant, old.scopes, old.name, expires_at)
        old.expires_at = min(now + overlap, old.expires_at or now + overlap)
        old.save(update_fields=["expires_at"])
        audit.record(
            AuditAction.KEY_REPLACED, public_id, tenant=old.tenant_id, by=new.public_id, until=old.expires_at
        )
    control.key_changed(public_id)
    return old, new, shown


def revoke(public_id: str) -> ApiKey:
    """Stop a key, everywhere within 5 seconds. Revoking twice changes nothing. Raises ApiKey.DoesNotExist."""
    with tenancy.in_platform(), transaction.atomic():
        key = ApiKey.objects.select_related("tenant").get(public_id=public_id)
        if key.revoked_at is None:
            key.revoked_at = timezone.now()
            key.save(update_fields=["revoked_at"])
            audit.record(AuditAction.KEY_REVOKED, public_id, tenant=key.tenant_id)
    control.key_changed(public_id)
    return key


def is_usable(public_id: str) -> bool:
    """Whether the key of this id may be used now."""
    key = _kept.get(public_id) or _read(public_id)
    return key is not None and key.usable


def forget(public_id: str) -> None:
    """Drop what is kept of a key."""
    _kept.forget(public_id)


def duration(text: str) -> timedelta:
    """`90d`, `12h`, `30m` as a time span. Raises ValueError."""
    match = DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a duration such as 90d, 12h or 30m")
    return timedelta(**{UNITS[match[2]]: int(match[1])})


@async_unsafe  # an event loop learns that it may not ask before a query is made up for it
def _read(public_id: str) -> ApiKey | None:
    with tenancy.in_platform():
        return _kept.read(public_id)


def _mark(public_id: str) -> object:
    return MARK.run({"public_id": public_id})


def _load(public_id: str) -> ApiKey | None:
    return ApiKey.objects.select_related("tenant").filter(public_id=public_id).first()


_kept: Kept[str, ApiKey | None] = Kept(FRESH_SECONDS, 10_000, _mark, _load)


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def _hash(shown: str) -> bytes:
    # The secret has 190 random bits: nothing can be guessed, so a slow hash would only slow down requests.
    return hashlib.sha256(shown.encode()).digest()


def _checksum(start: str) -> str:
    number, digits = zlib.crc32(start.encode()), ""
    for _ in range(6):
        number, rest = divmod(number, 62)
        digits = ALPHABET[rest] + digits
    return digits
