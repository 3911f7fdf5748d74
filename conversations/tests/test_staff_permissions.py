"""What our own people may do: every row of their table, allowed and denied; and that nothing asks for anything else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import Permission

from billing.models import Issuer, Plan
from chatplatform import tenancy
from tenants.admin.people import PERMISSIONS
from tenants.models import ApiKey, User
from tenants.selectors import TenantState
from tenants.tests.console import Console, person

TENANT = "tenants/tenant/{tenant}"
# A door for each: what is not there is not found by who may look, and refused to who may not.
DOORS = {
    "tenants.view_tenant": ("GET", "tenants/tenant/"),
    "tenants.add_tenant": ("GET", "tenants/tenant/add/"),
    "tenants.change_tenant": ("GET", f"{TENANT}/suspend/"),
    "tenants.view_configurationversion": ("GET", f"{TENANT}/configuration/"),
    "tenants.add_configurationversion": ("GET", f"{TENANT}/configuration/edit/"),
    "tenants.add_domain": ("POST", f"{TENANT}/domains/"),
    "tenants.delete_domain": ("POST", f"{TENANT}/domains/{{nothing}}/remove/"),
    "tenants.view_membership": ("GET", f"{TENANT}/members/"),
    "tenants.change_membership": ("POST", f"{TENANT}/members/"),
    "tenants.view_tokenissuer": ("GET", "tenants/tokenissuer/"),
    "tenants.add_tokenissuer": ("GET", "tenants/tokenissuer/add/"),
    "tenants.delete_tokenissuer": ("POST", "tenants/tokenissuer/{nothing}/remove/"),
    "tenants.view_apikey": ("GET", "tenants/apikey/"),
    "tenants.add_apikey": ("GET", "tenants/apikey/add/"),
    "tenants.change_apikey": ("POST", "tenants/apikey/{key}/revoke/"),
    "tenants.view_signingkey": ("GET", "tenants/signingkey/"),
    "tenants.view_isolationreport": ("GET", "tenants/isolationreport/"),
    "tenants.view_auditentry": ("GET", "tenants/auditentry/"),
    "tenants.view_user": ("GET", "tenants/user/"),
    "tenants.add_user": ("GET", "tenants/user/add/"),
    "tenants.change_user": ("POST", "tenants/user/{user}/change/"),
    "tenants.delete_user": ("GET", "tenants/user/{user}/delete/"),
    "tenants.delete_contact": ("GET", "conversations/acme/{nothing}/erase-contact/"),
    "auth.view_group": ("GET", "auth/group/"),
    "conversations.view_conversation": ("GET", "conversations/acme/"),
    "billing.view_issueddocument": ("GET", "billing/issueddocument/"),
    "billing.add_issueddocument": ("GET", "billing/issueddocument/issue/"),
    "billing.change_issueddocument": ("GET", "billing/issueddocument/{nothing}/paid/"),
    "billing.view_ledgerentry": ("GET", "spending/acme/"),
    "billing.delete_hold": ("POST", "spending/acme/holds/return/"),
    "billing.view_modelprice": ("GET", "billing/modelprice/"),
    "billing.add_modelprice": ("GET", "billing/modelprice/add/"),
    "billing.view_plan": ("GET", "billing/plan/"),
    "billing.add_plan": ("GET", "billing/plan/add/"),
    "billing.change_plan": ("POST", "billing/plan/{plan}/change/"),
    "billing.view_subscription": ("GET", f"{TENANT}/billing/"),
    "billing.add_subscription": ("GET", f"{TENANT}/billing/plan/"),
    "billing.view_billingaccount": ("GET", f"{TENANT}/billing/account/"),
    "billing.change_billingaccount": ("POST", f"{TENANT}/billing/account/"),
    "billing.view_issuer": ("GET", "billing/issuer/"),
    "billing.add_issuer": ("GET", "billing/issuer/add/"),
    "billing.change_issuer": ("POST", "billing/issuer/{issuer}/change/"),
}
ON_A_PAGE = {"conversations.view_work": "Replies, now"}  # opens no page, but shows a part of the first one
ASKED = re.compile(r'"((?:tenants|billing|conversations|auth)\.(?:view|add|change|delete)_[a-z]+)"')
ON_PAGES = re.compile(r'Page\([^()]*?"((?:view|add|change|delete)_[a-z]+)"')


def test_every_row_has_a_door() -> None:
    assert set(DOORS) | set(ON_A_PAGE) == set(PERMISSIONS)


@pytest.fixture
def ids(acme: TenantState) -> dict[str, str]:
    """What the doors lead to."""
    nothing = str(uuid4())
    with tenancy.in_platform():
        plan = Plan.objects.create(code="doors", name="Doors", tier="custom", usage_billing="cost")
        issuer = Issuer.objects.create(name="Doors", number_format="DOORS-{number:06d}")
        key = ApiKey.objects.filter(tenant_id=acme.ref.id, revoked_at=None).first()
        user = User.objects.create(username="somebody", is_staff=True)
    return {
        "tenant": str(acme.ref.id),
        "nothing": nothing,
        "key": str(key.pk) if key else nothing,
        "user": str(user.pk),
        "plan": str(plan.pk),
        "issuer": str(issuer.pk),
    }


def staff(name: str, permissions: set[str]) -> User:
    """An account with these permissions."""
    user = person(name)
    with tenancy.in_platform():
        codenames = [one.partition(".")[2] for one in permissions]
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    return user


def answers(console: Console, permission: str, ids: dict[str, str]) -> int:
    method, path = DOORS[permission]
    return int((console.get if method == "GET" else console.post)(path.format_map(ids)).status_code)


def without(permission: str) -> set[str]:
    """All permissions but this one; who may change something, Django lets look at it, too."""
    return set(PERMISSIONS) - {permission, permission.replace(".view_", ".change_")}


@pytest.mark.parametrize("permission", DOORS)
def test_a_row(permission: str, ids: dict[str, str]) -> None:
    assert answers(Console(staff("all", set(PERMISSIONS))), permission, ids) in (200, 302, 404)
    assert answers(Console(staff("all-but", without(permission))), permission, ids) == 403


@pytest.mark.parametrize("permission", ON_A_PAGE)
def test_a_row_that_is_a_part_of_a_page(permission: str) -> None:
    assert ON_A_PAGE[permission] in Console(staff("all", set(PERMISSIONS))).text("")
    assert ON_A_PAGE[permission] not in Console(staff("all-but", without(permission))).text("")


def asked() -> Iterator[str]:
    """Every permission that the staff's pages ask for."""
    for model in admin.site._registry:
        yield f"{model._meta.app_label}.view_{model._meta.model_name}"
    for folder in ("tenants/admin", "billing/admin", "billing/staff", "conversations/staff"):
        for module in (Path(settings.BASE_DIR) / folder).glob("*.py"):
            if module.name != "people.py":
                yield from ASKED.findall(module.read_text())
                yield from (f"tenants.{name}" for name in ON_PAGES.findall(module.read_text()))


def test_nothing_asks_for_what_no_group_can_be_given() -> None:
    found = set(asked())
    assert {"tenants.delete_domain", "billing.delete_hold", "tenants.delete_contact"} <= found
    assert found - set(PERMISSIONS) == set()
