"""Replacing keys without opening a text twice: a tenant's new key wraps its data keys again. What is stored in the
clear is sealed, and the other way round, as the tenant wants it.

A new master key wraps new tenants' keys, and never one that was there before: else who has an older backup would find
in a newer one the key that opens it, and to destroy the old master key would end nothing.

Every step is a transaction of its own and looks for what is left to do: one that was broken off goes on when it is
asked for again. Requests go on all the while: the key before stays for a quarter of an hour, and goes with the next
rotation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.apps import apps
from django.db import DatabaseError, transaction
from django.utils import timezone

from chatplatform import tenancy
from chatplatform.tenancy import Home, TenantRef
from tenants import audit, keyring, secrets, selectors
from tenants.fields import SealedTextField, Stored
from tenants.keyring import Wrapping
from tenants.master_keys import master_keys
from tenants.models import DataKey, Tenant, TenantKey
from tenants.models.audit import PLATFORM
from tenants.vocabulary import AuditAction

BATCH = 500
GRACE = timedelta(minutes=15)  # longer than a process keeps the key that wraps
Told = Callable[[str], None]


def rotate_master(say: Told) -> dict[str, int]:
    """Replace the keys that another master key wraps, of tenants and the platform, and remove what nothing needs any
    more: how many were replaced, and how many are still under other master keys, for now. Raises MasterKeyMissing.
    """
    master, done = master_keys().current(), 0
    with tenancy.in_platform():
        refs: list[TenantRef | None] = [tenant.ref for tenant in Tenant.objects.order_by("slug")]
    for tenant in [*refs, None]:
        try:
            done += _follow(master, tenant, say)
        except DatabaseError as error:  # one that is being born or erased must not keep the others waiting
            say(f"{tenant.slug if tenant else 'platform'}: {error}")
    with tenancy.in_platform(), transaction.atomic():
        left = TenantKey.objects.exclude(master=master).count()
        audit.record(AuditAction.MASTER_KEY_ROTATED, master, keys=done, left=left)
    return {"tenant_keys": done, "left": left}


def _follow(master: str, tenant: TenantRef | None, say: Told) -> bool:
    """Have a tenant's key be one that was made under this master key; whether it was not."""
    owner = tenant.id if tenant else PLATFORM
    with tenancy.in_platform():
        row = TenantKey.objects.filter(tenant=owner, current=True).first()
    if row is None:
        return False
    if wrong := row.master != master:
        keyring.replace(owner)
    _bring_to_its_end(tenant, say, reseal=tenant is None)  # tenants' texts are sealed by their data keys
    return wrong


def rotate_tenant(tenant: TenantRef | None, say: Told) -> dict[str, int]:
    """Give a tenant (None: the platform) a new key, wrap its data keys under it, and seal what is still in the clear.

    What was begun before and broken off is brought to its end first.
    """
    owner = tenant.id if tenant else PLATFORM
    if not _left(tenant):
        keyring.replace(owner)
    done = _bring_to_its_end(tenant, say, reseal=True)
    with tenancy.in_platform(), transaction.atomic():
        audit.record(AuditAction.DATA_KEYS_ROTATED, owner, tenant=owner, done=done)
    return done


def _bring_to_its_end(tenant: TenantRef | None, say: Told, *, reseal: bool) -> dict[str, int]:
    """Wrap under the key that wraps now what others wrapped, seal what is to be sealed, and remove old keys."""
    owner = tenant.id if tenant else PLATFORM
    done = {"data_keys": _wrap_all(tenant, say) if tenant else 0}
    if reseal:
        with _inside(tenant):
            done["texts"] = sum(_reseal(field, bool(tenant), say) for field in _sealed_fields(tenant))
    with tenancy.in_platform(), transaction.atomic():
        old = TenantKey.objects.filter(tenant=owner, current=False)
        if not _left(tenant):
            old.filter(replaced_at__lt=timezone.now() - GRACE).delete()
        done["old_keys"] = old.count()
    return done


def _inside(tenant: TenantRef | None) -> Any:
    return tenancy.in_tenant(tenant) if tenant else tenancy.in_platform()


def _left(tenant: TenantRef | None) -> bool:
    """Whether data keys are still wrapped under a key that was replaced."""
    if tenant is None:
        return False
    current = keyring.current_wrapping(tenant.id).id
    with tenancy.in_tenant(tenant):
        return DataKey.objects.exclude(tenant_key=current).exists()


def _wrap_all(tenant: TenantRef, say: Told) -> int:
    with tenancy.in_tenant(tenant):
        used = set(DataKey.objects.values_list("tenant_key", flat=True).distinct())
    with tenancy.in_platform():
        rows = list(TenantKey.objects.filter(tenant=tenant.id))
        known = {row.id: keyring.wrapping_of(row) for row in rows if row.current or row.id in used}
        [current] = [known[row.id] for row in rows if row.current]
    done = 0
    with tenancy.in_tenant(tenant):
        while count := _wrap_some(known, current):
            done += count
            say(f"{tenant.slug}: {done} data keys wrapped again")
    return done


def _wrap_some(known: dict[UUID, Wrapping], current: Wrapping) -> int:
    """Wrap some data keys under the current key that another one wrapped; how many."""
    with transaction.atomic():
        rows = list(DataKey.objects.exclude(tenant_key=current.id).select_for_update()[:BATCH])
        for row in rows:
            plain = known[row.tenant_key].unwrap(bytes(row.wrapped), row.id)
            row.wrapped, row.tenant_key = current.wrap(plain, row.id), current.id
        DataKey.objects.bulk_update(rows, ["tenant_key", "wrapped"])
    return len(rows)


def _sealed_fields(tenant: TenantRef | None) -> Iterator[SealedTextField]:
    home = Home.TENANT if tenant else Home.SHARED
    for model in apps.get_models():
        if getattr(model, "home", None) is home:
            yield from (field for field in model._meta.concrete_fields if isinstance(field, SealedTextField))


def _reseal(field: SealedTextField, of_tenant: bool, say: Told) -> int:
    """Seal what is in the clear in one column, or open what is sealed if the tenant wants no sealing; how many."""
    done, last = 0, None
    while True:
        rows: Any = field.model._default_manager.order_by("pk").exclude(**{field.name: None})
        rows = rows.filter(pk__gt=last) if last else rows
        with transaction.atomic():
            batch = list(rows.values_list("pk", field.name)[:BATCH])
            wrong = [pk for pk, stored in batch if _is_wrong(stored, of_tenant)]
            for row in field.model._default_manager.filter(pk__in=wrong).select_for_update(of=("self",)):
                row.save(update_fields=[field.name])
        if not batch:
            return done
        last, done = batch[-1][0], done + len(wrong)
        if wrong:
            say(f"{field.place.decode()}: {done} texts sealed anew")


def _is_wrong(stored: Stored, of_tenant: bool) -> bool:
    if stored == secrets.IN_THE_CLEAR:
        return False
    sealed_with = secrets.sealed_with(stored)
    if not of_tenant:
        return sealed_with != TenantKey.objects.get(tenant=PLATFORM, current=True).id
    return (sealed_with is not None) != selectors.state(tenancy.current_tenant().id).encrypts
