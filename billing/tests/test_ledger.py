"""The books are written once: nobody changes them, not even their owner."""

from __future__ import annotations

import pytest
from django.db import DatabaseError, connections, transaction

from billing.models import LedgerEntry
from billing.services import budgets
from billing.tests.books import account, entry
from chatplatform import tenancy
from chatplatform.postgres import roles
from tenants.selectors import TenantState
from tenants.services import lifecycle, provisioning

TABLES = ["billing_ledgerentry", "billing_invoice", "billing_invoiceline", "billing_payment"]
CHANGES = ["UPDATE {} SET id = id", "DELETE FROM {}", "TRUNCATE {} CASCADE"]


def refused(using: str, statement: str, why: str) -> None:
    with (
        pytest.raises(DatabaseError, match=why),
        transaction.atomic(using),
        connections[using].cursor() as cursor,
    ):
        cursor.execute(statement)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("change", CHANGES)
def test_the_roles_that_the_application_has_may_not_change_a_row(
    in_acme: TenantState, table: str, change: str
) -> None:
    refused("default", change.format(table), "permission denied")
    with tenancy.staff_view(in_acme.ref):
        refused("default", change.format(table), "permission denied")


@pytest.mark.django_db(databases=["default", "admin"])
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("change", CHANGES)
def test_neither_may_the_owner(in_acme: TenantState, table: str, change: str) -> None:
    refused("admin", change.format(table), "can only be added to")


def test_rows_can_be_added_and_read(in_acme: TenantState) -> None:
    of = account()
    budgets.settle(of, [entry(of, 3)])
    row = LedgerEntry.objects.get(reply=of.reply)
    assert (row.charged_usd, row.cost_usd, row.output_price, row.output_tokens) == (3, 3, 1_000_000, 3)


def test_an_entry_is_written_once(in_acme: TenantState) -> None:
    of = account()
    budgets.settle(of, [entry(of, 3)])
    budgets.settle(of, [entry(of, 5)])
    assert [row.charged_usd for row in LedgerEntry.objects.filter(reply=of.reply)] == [3]


def test_a_birth_that_is_repeated_gives_no_rights_back_and_a_tenant_can_be_erased(committed: None) -> None:
    tenant, _, _ = provisioning.request_tenant("Hooli", "hooli-books")
    provisioning.provision(tenant.id)
    roles.create_schema(tenant.schema_name)
    with tenancy.in_tenant(tenant.ref), connections["default"].cursor() as cursor:
        rights = {}
        for table in [*TABLES, "billing_balance"]:
            cursor.execute(
                "SELECT array_agg(one) FROM unnest(ARRAY['INSERT', 'SELECT', 'UPDATE', 'DELETE', 'TRUNCATE']) AS one"
                " WHERE has_table_privilege(current_user, %s, one)",
                [table],
            )
            rights[table] = cursor.fetchone()[0]
        of = account()
        budgets.settle(of, [entry(of, 3)])
    assert rights == {
        **{key: ["INSERT", "SELECT"] for key in TABLES},
        "billing_balance": ["INSERT", "SELECT", "UPDATE", "DELETE"],
    }
    lifecycle.erase(tenant.slug)
    with roles.admin_connection() as admin:
        [found] = admin.execute(
            "SELECT count(*) FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid"
            " JOIN pg_namespace n ON n.oid = relnamespace WHERE tgname = %s AND nspname = %s",
            ["append_only", tenant.schema_name],
        ).fetchone() or [None]
    assert found == 0
