"""The second fence: what PostgreSQL itself refuses, however the statement was written."""

from __future__ import annotations

from uuid import UUID

import psycopg
import pytest
from django.db import ProgrammingError, connection, transaction

from chatplatform import embedded, tenancy
from chatplatform.postgres import names, roles
from chatplatform.postgres.models import uuid7
from chatplatform.testing import cast
from conversations.models import Work
from tenants.models import ApiKey, Contact, Tenant
from tenants.selectors import TenantState

SAME = UUID("01900000-0000-7000-8000-0000000000f1")


def run(statement: str) -> list[tuple[object, ...]]:
    """Raw SQL in the context in force."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


def refused(statement: str) -> None:
    with pytest.raises(ProgrammingError, match=r"permission denied|must be owner|does not exist"):
        run(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM {other}.tenants_contact",
        "SELECT count(*) FROM {other}.conversations_message",
        "INSERT INTO {other}.tenants_contact (id) VALUES (gen_random_uuid())",
        "UPDATE {other}.tenants_contact SET name = 'ours'",
        "DELETE FROM {other}.conversations_conversation",
        "TRUNCATE {other}.tenants_contact",
        "COPY {other}.tenants_contact TO STDOUT",
        "CREATE TABLE {other}.mine (id int)",
        "WITH x AS (SELECT * FROM {other}.tenants_contact) SELECT * FROM x",
    ],
)
def test_a_tenant_cannot_reach_into_another_schema(
    in_acme: TenantState, globex: TenantState, statement: str
) -> None:
    refused(statement.format(other=globex.ref.schema))


@pytest.mark.parametrize(
    "table",
    [
        "tenants_tenant",
        "tenants_apikey",
        "tenants_user",
        "tenants_configurationversion",
        "conversations_work",
    ],
)
@pytest.mark.parametrize("prefix", ["", "public."])
def test_a_tenant_cannot_read_the_control_plane(in_acme: TenantState, table: str, prefix: str) -> None:
    refused(f"SELECT * FROM {prefix}{table}")
    refused(f"DELETE FROM {prefix}{table}")


@pytest.mark.parametrize("model", [Tenant, ApiKey, Work])
def test_the_control_plane_is_closed_to_a_tenants_orm_too(in_acme: TenantState, model: type[Tenant]) -> None:
    with pytest.raises(ProgrammingError), transaction.atomic():
        model.objects.count()


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE tenants_contact ADD COLUMN extra int",
        "DROP TABLE conversations_message",
        "CREATE TABLE mine (id int)",
        "CREATE TABLE public.mine (id int)",
        "ALTER TABLE conversations_message DISABLE TRIGGER ALL",
    ],
)
def test_a_tenant_owns_nothing(in_acme: TenantState, statement: str) -> None:
    refused(statement)


def test_the_platform_sees_the_control_plane_and_no_tenants_rows_unasked(db: None) -> None:
    with tenancy.in_platform():
        assert run("SELECT count(*) FROM tenants_tenant WHERE slug IN ('acme', 'globex')") == [(2,)]
        refused("SELECT * FROM tenants_contact")


def test_staff_see_both_homes(acme: TenantState, globex: TenantState) -> None:
    for tenant in (acme, globex):
        with tenancy.in_tenant(tenant.ref):
            Contact.objects.create(pk=SAME, name=tenant.name)
    for tenant in (acme, globex):
        with tenancy.staff_view(tenant.ref):
            assert Contact.objects.get(pk=SAME).name == tenant.name
            assert Tenant.objects.filter(slug="acme").exists()


def test_staff_and_tenant_do_not_share_a_role(acme: TenantState) -> None:
    database = connection.settings_dict["NAME"]
    with tenancy.staff_view(acme.ref):
        assert run("SELECT current_user") == [(names.platform_role(database),)]
    with tenancy.in_tenant(acme.ref):
        assert run("SELECT current_user") == [(names.tenant_role(database, acme.ref.schema),)]
        refused("SELECT * FROM tenants_tenant")


@pytest.mark.parametrize(
    "statement",
    ["SELECT * FROM {schema}.tenants_contact", "SELECT * FROM public.tenants_tenant", "SET ROLE {owner}"],
)
def test_the_login_itself_can_do_nothing(in_acme: TenantState, statement: str) -> None:
    assert Contact.objects.count() >= 0  # the connection is open, and under Acme's role
    owner = names.owner_role(connection.settings_dict["NAME"])
    bare = connection.connection
    with pytest.raises(psycopg.errors.InsufficientPrivilege), bare.transaction():
        bare.execute("RESET ROLE")
        bare.execute(statement.format(schema=in_acme.ref.schema, owner=owner))


def test_vectors_and_their_operators_work_inside_a_tenant(in_acme: TenantState) -> None:
    assert run("SELECT '[1,2]'::vector <=> '[1,2]'::vector") == [(0.0,)]


@pytest.mark.parametrize(
    "schema", ["public", "t_", "t_a; DROP SCHEMA public", 't_"x"', "T_ACME", "t_" + "a" * 59]
)
def test_only_a_tenants_schema_can_be_made_or_dropped(schema: str) -> None:
    for change in (roles.create_schema, roles.drop_schema):
        with pytest.raises(ValueError, match="cannot be the schema of a tenant"):
            change(schema)


def test_a_role_name_is_never_cut_off() -> None:
    with pytest.raises(ValueError, match="longer than"):
        names.tenant_role("d" * 30, "t_" + "s" * 40)


def test_slugs_become_schemas_one_to_one() -> None:
    assert names.schema_for("big-shop-2") == "t_big_shop_2"


# --- What the shared schema lets a tenant reach ----------------------------------------------------------------
def test_no_shared_table_is_a_tenants_to_touch(in_acme: TenantState) -> None:
    """Of all there are: a new one that is granted by mistake fails here."""
    rights = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
    allowed = " OR ".join(f"has_table_privilege(oid, '{right}')" for right in rights)
    tables = "relkind IN ('r', 'p', 'v', 'm', 'f') AND relnamespace = 'public'::regnamespace"
    assert run(f"SELECT relname FROM pg_class WHERE {tables} AND ({allowed})") == []
    assert run(f"SELECT count(*) > 20 FROM pg_class WHERE {tables}") == [(True,)]


def test_the_functions_that_act_for_a_tenant_in_shared_tables_are_these(in_acme: TenantState) -> None:
    """Each runs as the owner, so each has to be looked at: what it touches needs a policy of its own."""
    found = run("SELECT proname FROM pg_proc WHERE prosecdef ORDER BY proname")
    assert found == [("add_work",), ("hand_back_work",), ("settle_work",), ("take_work",)]


def test_work_rows_of_another_tenant_are_out_of_reach_even_of_a_careless_function(
    committed: None, servers: embedded.Servers
) -> None:
    """A function that runs as the owner, and forgets to ask whose the rows are, finds the tenant's own."""
    acme, globex = cast.state("acme"), cast.state("globex")
    own, other = uuid7(), uuid7()
    for tenant, work in ((acme, own), (globex, other)):
        with tenancy.in_platform():
            Work.objects.create(id=work, tenant_id=tenant.ref.id, state="settled")
    with psycopg.connect(servers.where.database_admin_url, autocommit=True) as admin:
        admin.execute(f"SET ROLE {names.owner_role(connection.settings_dict['NAME'])}")
        careless = "CREATE FUNCTION public.careless_{} LANGUAGE sql SECURITY DEFINER AS '{}'"
        admin.execute(
            careless.format("look() RETURNS SETOF uuid", "SELECT id FROM public.conversations_work")
        )
        admin.execute(
            careless.format("give(uuid) RETURNS void", "UPDATE public.conversations_work SET tenant_id = $1")
        )
        try:
            with tenancy.in_tenant(acme.ref):
                seen = [row[0] for row in run("SELECT public.careless_look()")]
                assert own in seen and other not in seen
                with pytest.raises(ProgrammingError, match="row-level security"):
                    run(f"SELECT public.careless_give('{globex.ref.id}')")
        finally:
            admin.execute("DROP FUNCTION public.careless_look(), public.careless_give(uuid)")
    with tenancy.in_platform():
        assert Work.objects.filter(id__in=[own, other]).delete()[0] == 2, "the platform sees all"
