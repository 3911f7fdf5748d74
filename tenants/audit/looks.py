"""Takes the looks of staff into tenants out of the table that held them before the audit log did.

Processes of the version before still write there until they are restarted; the next version drops the table.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from django.db import connection, transaction

from chatplatform import tenancy
from tenants.audit.recording import record
from tenants.vocabulary import ActorKind, AuditAction

ACTIONS = {
    "list": AuditAction.CONVERSATIONS_LISTED,
    "search": AuditAction.CONVERSATIONS_SEARCHED,
    "read": AuditAction.CONVERSATION_READ,
}


def adopt() -> int:
    """Move what is there into the chains of its tenants, with its own times; returns how many. Safe to repeat."""
    with tenancy.in_platform(), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('public.tenants_stafflook') IS NOT NULL")
        if cursor.fetchone() != (True,):
            return 0
        cursor.execute("DELETE FROM tenants_stafflook RETURNING at, user_id, tenant_id, action, path")
        looks = sorted(cursor.fetchall())
        for at, user, tenant, action, path in looks:
            record(
                ACTIONS[action], _conversation(path), tenant=tenant, actor=(ActorKind.STAFF, str(user)), at=at
            )
    return len(looks)


def _conversation(path: str) -> str:
    """Of `/admin/conversations/<slug>/<id>/` the id; what was searched for is left out."""
    parts = urlsplit(path).path.strip("/").split("/")
    return parts[3] if len(parts) > 3 else ""
