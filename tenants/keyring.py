"""Keys of texts: made, looked up, kept and dropped. See docs/security.md.

A process keeps keys unwrapped, up to a number and for some minutes. Only keys that are committed are kept: one that a
rollback takes away must not have sealed anything.
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass
from threading import Lock
from typing import Any
from uuid import UUID

from cachetools import TTLCache
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.db import connection, transaction

from chatplatform import tenancy
from chatplatform.tenancy import TenantRef
from tenants import control, selectors
from tenants.master_keys import NONCE, master_keys
from tenants.models import Contact, DataKey, TenantKey
from tenants.models.audit import PLATFORM
from tenants.secrets import UnknownKey

KEPT, KEPT_SECONDS = 20_000, 300.0
KEY = 32  # bytes
TRIES = 3
WRAPPING = "SELECT * FROM tenants_tenantkey WHERE tenant = %s AND current FOR SHARE"


@dataclass(frozen=True, slots=True)
class Key:
    """What is kept of a data key: what seals, and what hides the words that texts are searched by."""

    seals: AESGCM
    words: bytes


_kept: TTLCache[tuple[UUID, bytes], Key] = TTLCache(KEPT, KEPT_SECONDS)
_uncommitted: set[tuple[UUID, bytes]] = set()
_lock = Lock()


def to_seal(owner: UUID | None) -> tuple[bytes, AESGCM] | None:
    """As `secrets.Keyring` says."""
    tenant = tenancy.current_scope().tenant
    if tenant is None:
        row = _current(PLATFORM)
        return row.id.bytes, _of_platform(row)
    if not selectors.state(tenant.id).encrypts:
        return None
    return (owner or tenant.id).bytes, _key(tenant, owner).seals


def to_open(key_id: bytes) -> AESGCM:
    """As `secrets.Keyring` says."""
    tenant = tenancy.current_scope().tenant
    if tenant is None:
        row = TenantKey.objects.filter(tenant=PLATFORM, id=UUID(bytes=key_id)).first()
        if row is not None:
            return _of_platform(row)
    elif found := _cached(tenant, key_id) or _read(tenant, key_id):
        return found.seals
    raise UnknownKey(UUID(bytes=key_id))


def drop(tenant_id: UUID, owner: UUID | None = None) -> None:
    """Have every process drop what it keeps of a contact's key, or of all of a tenant's."""
    control.publish("data_key_dropped", tenant_id=str(tenant_id), owner=str(owner) if owner else None)


def dropped(message: dict[str, Any]) -> None:
    """Drop what this process keeps of them."""
    tenant_id, owner = UUID(message["tenant_id"]), message["owner"]
    with _lock:
        if owner:
            _kept.pop((tenant_id, UUID(owner).bytes), None)
        else:
            for name in [name for name in _kept if name[0] == tenant_id]:
                del _kept[name]


def words_key() -> bytes:
    """What the current tenant's words are hidden by, 32 bytes; it stays the same when keys are rotated."""
    return _key(tenancy.current_tenant(), None).words


def prepare() -> None:
    """Make the current tenant's own keys, if it has none yet."""
    _key(tenancy.current_tenant(), None)


def new_tenant_key(tenant: UUID) -> TenantKey:
    """A key for a tenant, or for the platform, under the current master key. Not saved."""
    made = TenantKey(tenant=tenant, master=master_keys().current())
    made.wrapped = master_keys().wrap(os.urandom(KEY), _about(tenant, made.id))
    return made


def unwrapped(row: TenantKey) -> bytes:
    """A tenant's key itself, 32 bytes. Raises MasterKeyMissing."""
    return master_keys().unwrap(row.master, bytes(row.wrapped), _about(row.tenant, row.id))


def wrap_again(row: TenantKey) -> None:
    """Wrap a tenant's key under the current master key. Not saved."""
    plain = unwrapped(row)
    row.master = master_keys().current()
    row.wrapped = master_keys().wrap(plain, _about(row.tenant, row.id))


def wrap_data_key(holder: TenantKey, row: DataKey, plain: bytes) -> None:
    """Wrap a data key under a key of its tenant. Not saved."""
    nonce = os.urandom(NONCE)
    row.tenant_key = holder.id
    row.wrapped = nonce + AESGCM(unwrapped(holder)).encrypt(nonce, plain, _about(holder.tenant, row.id))


def unwrap_data_key(holder: TenantKey, row: DataKey) -> bytes:
    """A data key itself, 32 bytes. `holder` is the key that wrapped it."""
    wrapped = bytes(row.wrapped)
    about = _about(holder.tenant, row.id)
    return AESGCM(unwrapped(holder)).decrypt(wrapped[:NONCE], wrapped[NONCE:], about)


def _key(tenant: TenantRef, owner: UUID | None) -> Key:
    key_id = (owner or tenant.id).bytes
    return _cached(tenant, key_id) or _read(tenant, key_id) or _make(tenant, owner)


def _cached(tenant: TenantRef, key_id: bytes) -> Key | None:
    with _lock:
        return _kept.get((tenant.id, key_id))


def _read(tenant: TenantRef, key_id: bytes) -> Key | None:
    row, holder = _wrapped(tenant, UUID(bytes=key_id))
    if row is None or holder is None:
        return None
    plain, name = unwrap_data_key(holder, row), (tenant.id, key_id)
    key = Key(AESGCM(plain), hmac.digest(plain, b"words", "sha256"))
    if not connection.in_atomic_block:
        _uncommitted.discard(name)
    if name not in _uncommitted:
        with _lock:
            _kept[name] = key
    return key


def _wrapped(tenant: TenantRef, id: UUID) -> tuple[DataKey | None, TenantKey | None]:
    """A data key, and the key that wrapped it; None if there is no such key, or its tenant is being erased."""
    for _ in range(
        TRIES
    ):  # between the two looks a rotation may have wrapped the one anew and deleted the other
        row, holder = DataKey.objects.filter(id=id).first(), None
        if row is None:
            break
        with tenancy.in_platform():
            holder = TenantKey.objects.filter(id=row.tenant_key, tenant=tenant.id).first()
        if holder is not None:
            break
    return row, holder


def _make(tenant: TenantRef, owner: UUID | None) -> Key:
    """The first text of a contact, or of a tenant, makes its key. Raises UnknownKey: there is no such contact."""
    row, plain = DataKey(id=owner or tenant.id, contact_id=owner), os.urandom(KEY)
    if connection.in_atomic_block:
        name = (tenant.id, row.id.bytes)
        _uncommitted.add(name)
        transaction.on_commit(lambda: _uncommitted.discard(name))
    with transaction.atomic():
        if owner and not Contact.objects.select_for_update(no_key=True).filter(id=owner).exists():
            raise UnknownKey(owner)
        wrap_data_key(_current(tenant.id), row, plain)
        DataKey.objects.bulk_create([row], ignore_conflicts=True)
    found = _read(tenant, row.id.bytes)
    assert found is not None
    return found


def _current(tenant: UUID) -> TenantKey:
    """The key that wraps now, made if there is none. Locked against being replaced until the transaction ends."""
    with tenancy.in_platform(), transaction.atomic():
        while True:
            for found in TenantKey.objects.raw(WRAPPING, [tenant]):
                return found
            TenantKey.objects.bulk_create([new_tenant_key(tenant)], ignore_conflicts=True)


def _of_platform(row: TenantKey) -> AESGCM:
    return AESGCM(hmac.digest(unwrapped(row), b"texts of the platform", "sha256"))


def _about(tenant: UUID, key: UUID) -> bytes:
    """What a wrapped key is bound to."""
    return b"key" + tenant.bytes + key.bytes
