"""PostgreSQL as a child: its cluster, its command line, its roles and database."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path

import psycopg
from psycopg import sql

from chatplatform.embedded import paths
from chatplatform.embedded.account import Account, private_directory
from chatplatform.embedded.leftovers import stop_leftovers
from chatplatform.embedded.paths import ADMIN_LOGIN, DATABASE, LOGIN, Locations
from chatplatform.embedded.program import Program, Server

VERSION = "18"
# A small, fixed environment: the keys in ours are none of the server's business.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "effective_cache_size": "1GB",
    "maintenance_work_mem": "128MB",
    "max_wal_size": "1GB",
    "random_page_cost": "1.1",
    "wal_compression": "on",
    "wal_recycle": "off",  # files that are used again keep what was in them, keys of erased end users too
    "log_checkpoints": "off",
    "log_timezone": "UTC",
    "timezone": "UTC",
    "log_line_prefix": "",
    # What people write must not reach a log by way of a failed statement.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}
# The built-in provider sorts and folds Unicode alike on every system, whatever locales it has.
CLUSTER_OPTIONS = (
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--data-checksums",
    "--auth=peer",
)
AUTHENTICATION = "local all all peer map=embedded\n"


def server(where: Locations, account: Account) -> Server:
    """The PostgreSQL of a DATA_DIR, ready to be run by its owner."""
    settings = {**SETTINGS, "unix_socket_directories": _as_list_item(where.sockets)}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    program = Program(
        name="postgres",
        command=(str(paths.postgres_program("postgres")), "-D", str(where.postgres_data), *options),
        environment=ENVIRONMENT,
        directory=where.data_dir,
        account=account,
        stop_signal=signal.SIGINT,  # "fast": clients are cut off, the state is written, no recovery next time
        death_signal=signal.SIGINT,
        grace=3.0,
        before_start=lambda: prepare(where, account),
    )
    return Server(program, answers=lambda: _answers(where), set_up=lambda: set_up(where))


def prepare(where: Locations, account: Account) -> None:
    """Make the cluster if there is none, and clear away what a killed run left. Blocks about 1 s at first.

    Raises RuntimeError if the cluster cannot be made or is another major version's.
    """
    data = where.postgres_data
    private_directory(where.sockets, account)
    pid_file = data / "postmaster.pid"
    if pid_file.exists():
        stop_leftovers("postgres", data)
    if not data.exists():
        _make_cluster(where, account)
    version = (data / "PG_VERSION").read_text().strip()
    if version != VERSION:
        raise RuntimeError(
            f"{data} is of PostgreSQL {version}, this is {VERSION}: dump it there, load it here"
        )
    # Nobody runs here: what is left says nothing, but its pid may be in use by now and stop the start.
    socket = where.sockets / paths.POSTGRES_SOCKET
    for stale in (pid_file, socket, socket.with_name(f"{socket.name}.lock")):
        stale.unlink(missing_ok=True)
    _write(data / "pg_hba.conf", AUTHENTICATION, account)
    _write(data / "pg_ident.conf", _identities(), account)


def is_ready(where: Locations) -> bool:
    """Whether the application's login finds its database, complete."""
    try:
        with psycopg.connect(where.database_url, connect_timeout=2) as connection:
            # The extension is what set_up makes last.
            found = connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'vector'")
            return found.fetchone() is not None
    except psycopg.OperationalError:
        return False


def set_up(where: Locations) -> None:
    """Make the application's login, its database and the vector extension. Safe to repeat."""
    with psycopg.connect(where.database_url_of(ADMIN_LOGIN, "postgres"), autocommit=True) as admin:
        if not admin.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [LOGIN]).fetchone():
            admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(LOGIN)))
        if not admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
            # Copying the template file by file beats logging it block by block, and nobody else is here yet.
            statement = "CREATE DATABASE {} STRATEGY file_copy"
            admin.execute(sql.SQL(statement).format(sql.Identifier(DATABASE)))
    with psycopg.connect(where.database_admin_url, autocommit=True) as admin:
        admin.execute("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public")


def _answers(where: Locations) -> bool:
    try:
        psycopg.connect(where.database_url_of(ADMIN_LOGIN, "postgres"), connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _make_cluster(where: Locations, account: Account) -> None:
    # Made aside and renamed: a cluster under its final name is always a whole one.
    draft = where.data_dir / "postgres.new"
    if draft.exists():
        stop_leftovers("postgres", draft)
        shutil.rmtree(draft)
    private_directory(draft, account)
    command = (str(paths.postgres_program("initdb")), "-D", str(draft), "-U", ADMIN_LOGIN, *CLUSTER_OPTIONS)
    program = Program("initdb", command, environment=ENVIRONMENT, directory=where.data_dir, account=account)
    options = program.launch_options()
    done = subprocess.run(program.launch_command(), capture_output=True, text=True, **options)
    if done.returncode:
        raise RuntimeError(f"initdb failed: {done.stderr.strip() or done.stdout.strip()}")
    draft.rename(where.postgres_data)


def _identities() -> str:
    """Which system users may log in as ours: the one that runs this, and root."""
    users = dict.fromkeys([pwd.getpwuid(os.geteuid()).pw_name, "root"])
    return "".join(f'embedded "{user}" {login}\n' for user in users for login in (LOGIN, ADMIN_LOGIN))


def _as_list_item(path: Path) -> str:
    escaped = str(path).replace('"', '""')
    return f'"{escaped}"'


def _write(file: Path, text: str, account: Account) -> None:
    file.write_text(text)
    account.own(file)
