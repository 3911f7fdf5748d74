"""Keys of texts: made, looked up, kept and dropped. See docs/security.md.

A process keeps keys unwrapped, up to a number and for some minutes. Only what is committed is kept: a key that a
rollback takes away must not seal anything afterwards.
"""

from __future__ import annotations

import hmac
import os
import time
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.db import connection, transaction
from django.utils import timezone

from chatplatform import tenancy
from chatplatform.postgres.prepared import Statement
from chatplatform.tenancy import TenantRef
from tenants import control, selectors
from tenants.master_keys import NONCE, MasterKeyMissing, master_keys
from tenants.models import TenantKey
from tenants.models.audit import PLATFORM
from tenants.secrets import UnknownKey

KEPT, KEPT_SECONDS = 20_000, 300.0
KEY = 32  # bytes
TRIES = 3
CURRENT = b"current"  # in the place of a key's id: the one that wraps
READ = Statement("SELECT wrapped, tenant_key FROM tenants_datakey WHERE id = %(id)s")
# A key that is there, or a new one. Nothing comes back if the contact is not there, or if somebody else made one just
# now: then it is there when it is looked for again.
READ_OR_MAKE = Statement("""
WITH made AS (
    INSERT INTO tenants_datakey (id, contact_id, tenant_key, wrapped, created_at)
    SELECT %(id)s::uuid, %(contact)s::uuid, %(tenant_key)s::uuid, %(wrapped)s::bytea, statement_timestamp()
    WHERE NOT EXISTS (SELECT FROM tenants_datakey WHERE id = %(id)s::uuid)
        AND (%(contact)s::uuid IS NULL OR EXISTS (SELECT FROM tenants_contact WHERE id = %(contact)s::uuid))
    ON CONFLICT DO NOTHING RETURNING wrapped, tenant_key
)
SELECT wrapped, tenant_key, true FROM made
UNION ALL SELECT wrapped, tenant_key, false FROM tenants_datakey WHERE id = %(id)s::uuid
""")

T = TypeVar("T")
Name = tuple[UUID, bytes]  # of a tenant, or the platform; of a key


@dataclass(frozen=True, slots=True)
class Key:
    """What is kept of a data key: what seals, and what hides the words that texts are searched by."""

    seals: AESGCM
    words: bytes


@dataclass(frozen=True, slots=True)
class Wrapping:
    """A tenant's key, which wraps its data keys."""

    tenant: UUID
    id: UUID
    key: AESGCM
    texts: AESGCM  # the platform's seals its texts itself

    def wrap(self, plain: bytes, id: UUID) -> bytes:
        """A data key, wrapped."""
        nonce = os.urandom(NONCE)
        return nonce + self.key.encrypt(nonce, plain, _about(self.tenant, id))

    def unwrap(self, wrapped: bytes, id: UUID) -> bytes:
        """The data key itself, 32 bytes."""
        return self.key.decrypt(wrapped[:NONCE], wrapped[NONCE:], _about(self.tenant, id))


_kept: dict[Name, tuple[float, Any]] = {}
_uncommitted: set[Name] = set()


def to_seal(owner: UUID | None) -> tuple[bytes, AESGCM] | None:
    """As `secrets.Keyring` says."""
    tenant = tenancy.current_scope().tenant
    if tenant is None:
        wrapping = current_wrapping(PLATFORM)
        return wrapping.id.bytes, wrapping.texts
    if not selectors.state(tenant.id).encrypts:
        return None
    return (owner or tenant.id).bytes, _to_use(tenant, owner).seals


def to_open(key_id: bytes) -> AESGCM:
    """As `secrets.Keyring` says."""
    tenant = tenancy.current_scope().tenant
    if tenant is None:
        if found := _wrapping(PLATFORM, UUID(bytes=key_id)):
            return found.texts
    elif key := _cached((tenant.id, key_id)) or _read(tenant, key_id):
        seals: AESGCM = key.seals
        return seals
    raise UnknownKey(UUID(bytes=key_id))


def offer(owner: UUID, wrapped: bytes, by: UUID) -> None:
    """Keep a contact's key that a statement has read along, if what unwraps it is at hand: it need not be looked up."""
    tenant = tenancy.current_tenant()
    if not _cached((tenant.id, owner.bytes)) and (wrapping := _cached((tenant.id, by.bytes))):
        _keep_unwrapped(wrapping, owner, wrapped)


def words_key() -> bytes:
    """What the current tenant's words are hidden by, 32 bytes; it stays the same when keys are rotated."""
    return _to_use(tenancy.current_tenant(), None).words


def prepare() -> None:
    """Make the current tenant's own keys, if it has none yet."""
    _to_use(tenancy.current_tenant(), None)


def drop(tenant: UUID, owner: UUID | None = None) -> None:
    """Have every process drop what it keeps of a contact's key, or of all keys of a tenant or the platform."""
    control.publish("keys_dropped", tenant_id=str(tenant), owner=str(owner) if owner else None)


def dropped(message: dict[str, Any]) -> None:
    """Drop what this process keeps of them."""
    tenant_id, owner = UUID(message["tenant_id"]), message["owner"]
    if owner:
        _kept.pop((tenant_id, UUID(owner).bytes), None)
        return
    for name in [name for name in list(_kept) if name[0] == tenant_id]:
        _kept.pop(name, None)


def replace(tenant: UUID) -> None:
    """Have another key wrap from now on, for a tenant or the platform; the one before can still unwrap."""
    with tenancy.in_platform(), transaction.atomic():
        _not_yet((tenant, CURRENT))
        before = TenantKey.objects.filter(tenant=tenant, current=True)
        before.update(current=False, replaced_at=timezone.now())
        _new_tenant_key(tenant).save()
        transaction.on_commit(lambda: drop(tenant))


def _new_tenant_key(tenant: UUID) -> TenantKey:
    """A key under the current master key. Not saved."""
    made = TenantKey(tenant=tenant)
    made.master, made.wrapped = master_keys().wrap(os.urandom(KEY), _about(tenant, made.id))
    return made


def missing(*, all_of_them: bool = False) -> str | None:
    """Why keys that are in use cannot be unwrapped here, or nothing: one of each master key is tried. Those that were
    replaced count with `all_of_them` alone."""
    master_keys().current()
    rows = TenantKey.objects.order_by("master", "-created_at").distinct("master")
    with tenancy.in_platform():
        try:
            for row in rows if all_of_them else rows.filter(current=True):
                wrapping_of(row)
        except MasterKeyMissing as error:
            return str(error)
    return None


def wrapping_of(row: TenantKey) -> Wrapping:
    """A tenant's key, to be used. Raises MasterKeyMissing."""
    plain = _unwrapped(row)
    texts = hmac.digest(plain, b"texts of the platform", "sha256")
    return Wrapping(row.tenant, row.id, AESGCM(plain), AESGCM(texts))


def current_wrapping(tenant: UUID) -> Wrapping:
    """The key that wraps now, made if there is none."""
    name = (tenant, CURRENT)
    if found := _cached(name):
        return found  # type: ignore[no-any-return]
    with tenancy.in_platform():
        rows = TenantKey.objects.filter(tenant=tenant, current=True)
        row = rows.first()
        if row is None:
            _not_yet(name)
            TenantKey.objects.bulk_create([_new_tenant_key(tenant)], ignore_conflicts=True)
            row = rows.get()
    return _keep(name, wrapping_of(row))


def _to_use(tenant: TenantRef, owner: UUID | None) -> Key:
    """The key for texts of a contact, or of nobody; made if it is the first text. Raises UnknownKey."""
    id = owner or tenant.id
    if found := _cached((tenant.id, id.bytes)):
        return found  # type: ignore[no-any-return]
    for _ in range(TRIES):
        wrapping = current_wrapping(tenant.id)
        values = {"id": id, "contact": owner, "tenant_key": wrapping.id}
        wrapped = wrapping.wrap(os.urandom(KEY), id)
        for stored, wrapped_by, made in READ_OR_MAKE.run({**values, "wrapped": wrapped}):
            if made:
                _not_yet((tenant.id, id.bytes))
            if key := _unwrapped_key(tenant, id, bytes(stored), wrapped_by):
                return key
    raise UnknownKey(id)


def _read(tenant: TenantRef, key_id: bytes) -> Key | None:
    id = UUID(bytes=key_id)
    for _ in range(
        TRIES
    ):  # between the two looks a rotation may have wrapped the one anew and deleted the other
        rows = READ.run({"id": id})
        if not rows:
            return None
        if key := _unwrapped_key(tenant, id, bytes(rows[0][0]), rows[0][1]):
            return key
    return None


def _unwrapped_key(tenant: TenantRef, id: UUID, wrapped: bytes, by: UUID) -> Key | None:
    wrapping = _wrapping(tenant.id, by)
    if wrapping is None:
        return None
    return _keep_unwrapped(wrapping, id, wrapped)


def _keep_unwrapped(wrapping: Wrapping, id: UUID, wrapped: bytes) -> Key:
    plain = wrapping.unwrap(wrapped, id)
    return _keep((wrapping.tenant, id.bytes), Key(AESGCM(plain), hmac.digest(plain, b"words", "sha256")))


def _wrapping(tenant: UUID, id: UUID) -> Wrapping | None:
    name = (tenant, id.bytes)
    found: Wrapping | None = _cached(name)
    if found is None:
        with tenancy.in_platform():
            row = TenantKey.objects.filter(id=id, tenant=tenant).first()
        # It may be of this very transaction.
        kept = row is not None and (tenant, CURRENT) not in _uncommitted
        found = wrapping_of(row) if row else None
        if found and kept:
            _keep(name, found)
    return found


def _unwrapped(row: TenantKey) -> bytes:
    return master_keys().unwrap(row.master, bytes(row.wrapped), _about(row.tenant, row.id))


def _about(tenant: UUID, key: UUID) -> bytes:
    """What a wrapped key is bound to."""
    return b"key" + tenant.bytes + key.bytes


# --- What a process keeps ----------------------------------------------------------------------------------------
def _cached(name: Name) -> Any:
    until, found = _kept.get(name, (0.0, None))
    return found if until > time.monotonic() else None


def _keep(name: Name, found: T) -> T:
    """Keep what was read, unless it is of a transaction that is not committed yet; gives it back."""
    if not connection.in_atomic_block:
        _uncommitted.discard(name)
    if name not in _uncommitted:
        if len(_kept) >= KEPT:
            _kept.clear()  # rare, and cheaper than to know which were used last
        _kept[name] = (time.monotonic() + KEPT_SECONDS, found)
    return found


def _not_yet(name: Name) -> None:
    """What has this name is made in the open transaction, if there is one."""
    _kept.pop(name, None)
    if connection.in_atomic_block:
        _uncommitted.add(name)
        transaction.on_commit(lambda: _uncommitted.discard(name))
