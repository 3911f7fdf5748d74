"""Writing the audit log: in the transaction of what is recorded, as its last act.

The rows of a chain have to follow each other, so whoever appends locks the chain's head until the commit. That is done
last of all, chain by chain in the order of their ids: the lock is short, and no two transactions can wait for each
other, however many entries each of them writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from chatplatform import jobs, tenancy
from chatplatform.observability import context
from chatplatform.postgres.at_commit import at_commit
from tenants.audit import keys
from tenants.models.audit import PLATFORM, AuditEntry, AuditHead
from tenants.vocabulary import ActorKind, AuditAction

ANCHOR = "tenants.anchor_audit_log"
LONGEST_ID = 200
# What a hash is made of, in this order; `previous` chains it to the entry before.
HASHED = (
    "id", "chain", "sequence", "action", "actor_kind", "actor_id", "object_kind", "object_id", "data", "request",
    "address", "at", "key", "previous",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pending:
    """An entry that has no place in its chain yet."""

    chain: UUID
    fields: dict[str, Any]


def record(
    action: AuditAction,
    object_id: object = "",
    *,
    kind: str = "",
    tenant: UUID | None = None,
    actor: tuple[ActorKind, str] | None = None,
    at: datetime | None = None,
    **data: Any,
) -> None:
    """Write down that somebody does something, if and when the transaction commits (now, if there is none).

    Who, on whose behalf and in which request come from the context; `actor` and `tenant` (its id) say what the context
    does not know. `kind` is the object's, where the action does not name it. `data` is plain JSON without floats, and
    without anything personal: use `digest` for texts. Raises TypeError for other data.
    """
    scope = tenancy.scope_or_none()
    chain = tenant or (scope.tenant.id if scope and scope.tenant else PLATFORM)
    who, id = actor or context.actor.get()()
    fields = {
        "action": AuditAction(action),
        "actor_kind": ActorKind(who),
        "actor_id": id[:LONGEST_ID],
        "object_kind": kind or action.partition(".")[0],
        "object_id": str(object_id)[:LONGEST_ID],
        "data": _checked(data),
        "request": context.request_id.get() or "",
        "address": keys.short_hash(address) if (address := context.client_address.get()) else "",
        "at": at or timezone.now(),
    }
    with tenancy.in_platform():
        at_commit(append, Pending(chain, fields))


def append(entries: Sequence[Pending]) -> None:
    """Put entries at the ends of their chains. To be called last in a transaction."""
    chains: dict[UUID, list[Pending]] = {}
    for entry in entries:
        chains.setdefault(entry.chain, []).append(entry)
    with tenancy.in_platform(), transaction.atomic(savepoint=False):
        for chain in sorted(chains):
            _extend(_locked(chain), chains[chain])


def hashed(values: Iterable[Any], key: bytes) -> str:
    """The hash of an entry whose HASHED fields have these values. One content has one form only."""
    content = orjson.dumps([1, *values], option=orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z)
    return keys.sign(key, content)


def signed_head(chain: UUID, sequence: int, hash: str, key: keys.Key) -> str:
    """The signature of a head: that a chain ended with this entry at some time."""
    return keys.sign(key.heads, f"1 {chain} {sequence} {hash}".encode())


def _locked(chain: UUID) -> AuditHead:
    heads = AuditHead.objects.select_for_update()
    head = heads.filter(chain=chain).first()
    if head is None:
        AuditHead.objects.bulk_create([AuditHead(chain=chain)], ignore_conflicts=True)
        head = heads.get(chain=chain)
    return head


def _extend(head: AuditHead, entries: list[Pending]) -> None:
    key, before = keys.current(), head.sequence
    rows = []
    for entry in entries:
        head.sequence += 1
        row = AuditEntry(
            chain=head.chain, sequence=head.sequence, key=key.id, previous=head.hash, **entry.fields
        )
        head.hash = row.hash = hashed((getattr(row, name) for name in HASHED), key.entries)
        rows.append(row)
    AuditEntry.objects.bulk_create(rows)
    head.key, head.signature = key.id, signed_head(head.chain, head.sequence, head.hash, key)
    head.save(update_fields=["sequence", "hash", "key", "signature", "updated_at"])
    if head.sequence // settings.AUDIT_ANCHOR_ROWS > before // settings.AUDIT_ANCHOR_ROWS:
        jobs.enqueue_on_commit(ANCHOR)


def _checked(value: Any) -> Any:
    """Plain JSON, the same when it comes back from the database: which numbers with a fraction are not."""
    match value:
        case None | bool() | int():
            return value
        case str():
            return str(value).replace("\0", "").encode(errors="replace").decode()
        case dict():
            return {str(name): _checked(one) for name, one in value.items()}
        case list() | tuple():
            return [_checked(one) for one in value]
        case UUID() | datetime():
            return str(value)
    raise TypeError(f"{type(value).__name__} is nothing for the audit log: make it text.")
