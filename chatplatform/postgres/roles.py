"""Makes the roles, schemas and grants of the fence. Runs as the admin login, never as the application's.

Three kinds of role, none of which can log in: the owner of everything, the platform (shared tables), and one per
tenant (its own schema). The application's login owns nothing and may only `SET ROLE` to the last two kinds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from django.apps import apps
from django.db import connections
from psycopg import sql

from chatplatform.postgres import names
from chatplatform.postgres.models import ALL_RIGHTS
from chatplatform.tenancy import Home

ADMIN = "admin"
PUBLIC = "public"
LOCK = 0x63706462  # "cpdb": one installer at a time


@contextmanager
def admin_connection() -> Iterator[psycopg.Connection]:
    """A plain connection as the admin login, outside the fence: for roles and schemas only."""
    params = connections[ADMIN].get_connection_params()
    params.pop("cursor_factory", None)
    params.pop("context", None)
    with psycopg.connect(**params) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        yield connection


def prepare_database() -> None:
    """Make the owner and platform roles and the grants on `public`. Safe to repeat."""
    database, login = _database(), connections["default"].settings_dict["USER"]
    owner, platform = names.owner_role(database), names.platform_role(database)
    with admin_connection() as admin:
        _ensure_role(admin, owner)
        _ensure_role(admin, platform)
        admin.execute("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public")
        _let_admin_act_as(admin, owner)
        _let_login_act_as(admin, platform, login)
        _run(admin, "GRANT CONNECT ON DATABASE {} TO {}", database, login)
        _run(admin, "GRANT CREATE, USAGE ON SCHEMA public TO {}", owner)
        _run(admin, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        _grant_tables(admin, owner, "public", platform)
        _narrow(admin, "public")


def narrow_rights(schema: str) -> None:
    """Where a model allows less than everything (`rights`), take the rest from the application's roles, in one schema.

    Needed after each migration: tables are made with all rights. Safe to repeat.
    """
    if _narrow_tables(schema):
        with admin_connection() as admin:
            _narrow(admin, schema)


def create_schema(schema: str) -> None:
    """Make a tenant's schema and role, and let the role use what the owner makes in it. Safe to repeat."""
    database, login = _database(), connections["default"].settings_dict["USER"]
    owner, role = names.owner_role(database), names.tenant_role(database, names.checked_schema(schema))
    with admin_connection() as admin:
        _ensure_role(admin, role)
        _let_login_act_as(admin, role, login)
        _run(admin, "CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION {}", schema, owner)
        _grant_tables(admin, owner, schema, role)
        _grant_tables(admin, owner, schema, names.platform_role(database))
        _narrow(admin, schema)


def drop_schema(schema: str) -> None:
    """Remove a tenant's schema with all that is in it, and its role. Safe to repeat."""
    role = names.tenant_role(_database(), names.checked_schema(schema))
    with admin_connection() as admin:
        _run(admin, "DROP SCHEMA IF EXISTS {} CASCADE", schema)
        if _role_exists(admin, role):
            _let_admin_act_as(admin, role)  # whoever is no superuser may drop its own rights alone
            _run(admin, "DROP OWNED BY {}", role)
            _run(admin, "DROP ROLE {}", role)


def _database() -> str:
    return str(connections[ADMIN].settings_dict["NAME"])


def _run(admin: psycopg.Connection, statement: str, *identifiers: str) -> None:
    admin.execute(sql.SQL(statement).format(*map(sql.Identifier, identifiers)))


def _role_exists(admin: psycopg.Connection, role: str) -> bool:
    return admin.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone() is not None


def _ensure_role(admin: psycopg.Connection, role: str) -> None:
    if not _role_exists(admin, role):
        _run(admin, "CREATE ROLE {} NOLOGIN", role)


def _let_admin_act_as(admin: psycopg.Connection, role: str) -> None:
    row = admin.execute("SELECT current_user").fetchone()
    assert row is not None
    _run(admin, "GRANT {} TO {}", role, row[0])


def _let_login_act_as(admin: psycopg.Connection, role: str, login: str) -> None:
    # Without inheritance the login itself can read nothing; it has to name whom it acts for.
    _run(admin, "GRANT {} TO {} WITH INHERIT FALSE, SET TRUE", role, login)


def _grant_tables(admin: psycopg.Connection, owner: str, schema: str, role: str) -> None:
    _run(admin, "GRANT USAGE ON SCHEMA {} TO {}", schema, role)
    for what, rights in (("TABLES", ALL_RIGHTS), ("SEQUENCES", "USAGE, SELECT")):
        _run(admin, f"GRANT {rights} ON ALL {what} IN SCHEMA {{}} TO {{}}", schema, role)
        _run(
            admin,
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {{}} IN SCHEMA {{}} GRANT {rights} ON {what} TO {{}}",
            owner,
            schema,
            role,
        )


def _narrow(admin: psycopg.Connection, schema: str) -> None:
    roles = [names.platform_role(_database())]
    if schema != PUBLIC:
        roles.append(names.tenant_role(_database(), schema))
    for table, rights in _narrow_tables(schema).items():
        if admin.execute("SELECT to_regclass(%s)", [f"{schema}.{table}"]).fetchone() == (None,):
            continue  # it is not migrated yet
        for role in roles:
            _run(admin, "REVOKE ALL ON {}.{} FROM {}", schema, table, role)
            _run(admin, f"GRANT {rights} ON {{}}.{{}} TO {{}}", schema, table, role)


def _narrow_tables(schema: str) -> dict[str, str]:
    """The tables of a schema of which the application's roles may not do everything, with what they may."""
    home = Home.SHARED if schema == PUBLIC else Home.TENANT
    models = (model for model in apps.get_models() if getattr(model, "home", None) is home)
    narrow = {model._meta.db_table: getattr(model, "rights", ALL_RIGHTS) for model in models}
    return {table: rights for table, rights in narrow.items() if rights != ALL_RIGHTS}
