"""Changing a tenant's configuration: each change is a new numbered version."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.db import transaction

from chatplatform import tenancy
from chatplatform.api.problem import Code, Problem, invalid
from chatplatform.tenancy import TenantRef
from tenants import control
from tenants.models import ConfigurationVersion, Tenant
from tenants.models.configuration import FIELDS, LIMITS


def current(tenant: TenantRef) -> ConfigurationVersion:
    """The version in force, straight from the table."""
    with tenancy.in_platform():
        return ConfigurationVersion.objects.filter(tenant_id=tenant.id).latest("number")


def change(
    tenant: TenantRef, changes: dict[str, Any], *, author: str, by_staff: bool
) -> ConfigurationVersion:
    """Write the next version: the current one with `changes`. No change, no version.

    Raises Problem: unknown or wrong fields are 422, a limit above what staff set is 403.
    """
    if unknown := set(changes) - set(FIELDS):
        raise invalid(sorted(unknown)[0], "There is no such field.")
    with tenancy.in_platform(), transaction.atomic():
        Tenant.objects.select_for_update().get(id=tenant.id)  # one change at a time numbers without gaps
        before = ConfigurationVersion.objects.filter(tenant_id=tenant.id).latest("number")
        values = {name: getattr(before, name) for name in FIELDS}
        if all(values[name] == value for name, value in changes.items()):
            return before
        if not by_staff:
            _check_ceilings(tenant, changes)
        version = ConfigurationVersion(
            tenant_id=tenant.id,
            number=before.number + 1,
            author=author,
            by_staff=by_staff,
            **{**values, **changes},
        )
        version.full_clean(exclude=["tenant"])
        version.save()
    control.tenant_changed(tenant.id)
    return version


def _check_ceilings(tenant: TenantRef, changes: dict[str, Any]) -> None:
    staff = ConfigurationVersion.objects.filter(tenant_id=tenant.id, by_staff=True).latest("number")
    for name in set(changes) & set(LIMITS):
        ceiling, wanted = getattr(staff, name), changes[name]
        if ceiling is not None and (wanted is None or Decimal(str(wanted)) > ceiling):
            raise Problem(Code.NOT_ALLOWED, f"{name} may be lowered, not raised above {ceiling}.", field=name)
