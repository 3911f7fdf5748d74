"""The log of staff's looks into tenants."""

from __future__ import annotations

from chatplatform import tenancy
from chatplatform.tenancy import TenantRef
from tenants.models import StaffLook, User
from tenants.vocabulary import LookAction

LONGEST_PATH = 500


def record(user: User, tenant: TenantRef, action: LookAction, path: str) -> StaffLook:
    """Write down a look, before it happens: whatever fails afterwards, the log has it.

    `path` is the address with its query, because what was searched for is part of the look.
    """
    with tenancy.in_platform():
        return StaffLook.objects.create(
            user=user, tenant_id=tenant.id, action=action, path=path[:LONGEST_PATH]
        )
