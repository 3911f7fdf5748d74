"""Changing a tenant's configuration: each change is a new numbered version."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from typing import Any

from django.db import models, transaction

from chatplatform import tenancy
from chatplatform.api.problem import Code, Problem, invalid
from chatplatform.llm import catalog
from chatplatform.llm.errors import ModelUnknown
from chatplatform.tenancy import TenantRef
from tenants import audit, control, differences
from tenants.models import ConfigurationVersion, Tenant
from tenants.models.configuration import FIELDS, LIMITS
from tenants.vocabulary import AuditAction


def current(tenant: TenantRef) -> ConfigurationVersion:
    """The version in force, straight from the table."""
    with tenancy.in_platform():
        return ConfigurationVersion.objects.filter(tenant_id=tenant.id).latest("number")


def change(
    tenant: TenantRef, changes: dict[str, Any], *, author: str, by_staff: bool
) -> ConfigurationVersion:
    """Write the next version: the current one with `changes`. No change, no version.

    Raises Problem: unknown or wrong fields and unknown models are 422, a limit above what staff set is 403.
    """
    if unknown := set(changes) - set(FIELDS):
        raise invalid(sorted(unknown)[0], "There is no such field.")
    check_models(changes)
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
        audit.record(
            AuditAction.CONFIGURATION_CHANGED,
            version.number,
            tenant=tenant.id,
            changes=_recorded(before, version),
        )
    control.tenant_changed(tenant.id)
    return version


def _recorded(before: ConfigurationVersion, after: ConfigurationVersion) -> dict[str, list[Any]]:
    """What a version changed, for the audit log: texts and addresses as digests, all else as it is."""
    return {
        name: [_recorded_value(name, version) for version in (before, after)]
        for name in differences.names(before, after)
    }


def _recorded_value(name: str, version: ConfigurationVersion) -> Any:
    value = getattr(version, name)
    field = ConfigurationVersion._meta.get_field(name)
    if isinstance(field, models.TextField | models.EmailField):
        return audit.digest(value)
    return str(value) if isinstance(value, float | Decimal) else value


def check_models(values: dict[str, Any]) -> None:
    """Raises Problem `model_unknown` for a name that no provider recognises: else every message would fail later."""
    named = {"primary_model": [values.get("primary_model", catalog.AUTO)]}
    named |= {field: values.get(field) or [] for field in ("fallback_model", "allowed_models")}
    for field, names in named.items():
        for name in names:
            try:
                catalog.resolve(name)
            except ModelUnknown as error:
                errors = [{"field": field, "message": str(error)}]
                raise Problem(Code.MODEL_UNKNOWN, str(error), errors=errors) from error


def _check_ceilings(tenant: TenantRef, changes: dict[str, Any]) -> None:
    limits = sorted(set(changes) & set(LIMITS))
    rows = ConfigurationVersion.objects.filter(tenant_id=tenant.id).order_by("-number")
    versions = list(rows.values("by_staff", *limits)) if limits else []
    for name in limits:
        ceiling, wanted = _ceiling(versions, name), changes[name]
        if ceiling is not None and (wanted is None or Decimal(str(wanted)) > ceiling):
            shown = f"{Decimal(ceiling).normalize():f}"
            raise Problem(Code.NOT_ALLOWED, f"{name} may be lowered, not raised above {shown}.", field=name)


def _ceiling(versions: list[dict[str, Any]], name: str) -> Any:
    """What staff set last; what a staff version only took over from the tenant's does not count. Newest first."""
    for version, before in pairwise(versions):
        if version["by_staff"] and version[name] != before[name]:
            return version[name]
    return versions[-1][name]  # the first version is staff's
