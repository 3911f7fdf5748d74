"""A server that somebody else manages: the installer may make roles and owns the database, and is no superuser."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings

from chatplatform import embedded

NAME, FIRST, INSTALLER, LOGIN = "managed", "managed_first", "managed_installer", "managed_login"
LIFE = """
import django
django.setup()
from django.core.management import call_command
from chatplatform.management.base import close_pools
for command in %r:
    call_command(*command)
close_pools()
"""


@pytest.fixture
def managed(servers: embedded.Servers) -> Iterator[dict[str, str]]:
    """Such a database, made as docs/operations.md says: the addresses of its superuser, installer and login."""
    superuser = servers.where.database_admin_url
    with psycopg.connect(superuser, autocommit=True) as admin:
        _let_in(admin, FIRST, INSTALLER, LOGIN)
        admin.execute(f"CREATE ROLE {FIRST} LOGIN CREATEROLE CREATEDB NOSUPERUSER")
    with psycopg.connect(superuser.replace("cp_admin", FIRST), autocommit=True) as first:
        first.execute(f"CREATE ROLE {INSTALLER} LOGIN CREATEROLE")
        first.execute(f"CREATE ROLE {LOGIN} LOGIN NOINHERIT")
        first.execute(f"GRANT {INSTALLER} TO CURRENT_USER")
        first.execute(f"CREATE DATABASE {NAME} OWNER {INSTALLER}")
    inside = superuser.replace("/chatplatform", f"/{NAME}")
    with psycopg.connect(inside, autocommit=True) as admin:
        admin.execute("CREATE EXTENSION vector SCHEMA public")
    yield {"superuser": inside, **{who: inside.replace("cp_admin", who) for who in (INSTALLER, LOGIN)}}
    with psycopg.connect(superuser, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {NAME} WITH (FORCE)")
        for role in (f"{NAME}_platform", f"{NAME}_owner", f"{NAME}_t_initech", LOGIN, INSTALLER, FIRST):
            admin.execute(f"DROP ROLE IF EXISTS {role}")


def _let_in(admin: psycopg.Connection[Any], *logins: str) -> None:
    """The embedded server knows its clients by their account: this one may be these logins as well."""
    row = admin.execute("SHOW ident_file").fetchone()
    assert row
    file = Path(row[0])
    known = [line for line in file.read_text().splitlines() if "cp_app" in line]
    with file.open("a") as more:
        more.writelines(line.replace("cp_app", login) + "\n" for line in known for login in logins)
    admin.execute("SELECT pg_reload_conf()")


def operate(managed: dict[str, str], *commands: list[str]) -> None:
    """Run these commands on that server, in one process of their own."""
    environment = {**os.environ, "DATABASE_URL": managed[LOGIN], "DATABASE_ADMIN_URL": managed[INSTALLER]}
    environment["DJANGO_SETTINGS_MODULE"] = "chatplatform.settings"
    done = subprocess.run(
        [sys.executable, "-c", LIFE % (commands,)],
        cwd=settings.BASE_DIR,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.processes
def test_an_installer_that_may_only_make_roles_is_enough(managed: dict[str, str]) -> None:
    operate(
        managed,
        ["migrate_tenants"],
        ["provision_tenant", "initech"],
        ["provision_tenant", "hooli"],
        ["erase_tenant", "hooli", "--yes"],
        ["migrate_tenants"],
    )
    with psycopg.connect(managed[INSTALLER], autocommit=True) as installer:
        file = "SELECT pg_relation_filenode('t_initech.tenants_datakey')"
        before = installer.execute(file).fetchone()
        installer.execute("VACUUM (FULL) t_initech.tenants_datakey")  # as erasures need it
        assert installer.execute(file).fetchone() != before
    with psycopg.connect(managed[LOGIN], autocommit=True) as login:
        for refused in (
            "SELECT * FROM t_initech.tenants_contact",
            "SELECT * FROM tenants_tenant",
            f"SET ROLE {NAME}_owner",
            f"SET ROLE {INSTALLER}",
            "CREATE TABLE public.mine ()",
            "CREATE SCHEMA mine",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                login.execute(refused)
        login.execute(f"SET ROLE {NAME}_t_initech")
        assert login.execute("SELECT count(*) FROM t_initech.tenants_contact").fetchone() == (0,)
        login.execute(f"SET ROLE {NAME}_platform")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            login.execute("DELETE FROM tenants_auditentry")
        roles = login.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE 'managed!_t!_%' ESCAPE '!'")
        assert roles.fetchall() == [(f"{NAME}_t_initech",)], "the erased tenant's role is gone"
