"""What the audit log holds, as tests want to know it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.db import connection

from chatplatform import tenancy
from chatplatform.postgres.at_commit import write_pending
from tenants.models import AuditEntry

FIELDS = ("action", "object_id", "data")


def written(*fields: str, chain: UUID | None = None, kinds: Iterable[str] = ()) -> list[tuple[Any, ...]]:
    """The entries of a chain (of all chains), oldest first, as these fields; of some kinds of objects only.

    Inside a test's transaction, which never commits, this first does what the commit would.
    """
    write_pending(connection)
    with tenancy.in_platform():
        rows = AuditEntry.objects.order_by("at", "chain", "sequence")
        if chain is not None:
            rows = rows.filter(chain=chain)
        if kinds:
            rows = rows.filter(object_kind__in=kinds)
        return list(rows.values_list(*(fields or FIELDS)))
