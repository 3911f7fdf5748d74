"""What the fence costs with many tenants: `python -m loadtests.fence [--tenants 1000]`, with a server of its own.

The tenants have the real roles, grants and tables, but the tables are copied from one that was migrated: to migrate
them all would take an hour, and is not what is measured. CPU times are the server's process's and ours together.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID, uuid4

from chatplatform.tenancy import TenantRef

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatplatform.settings")
ROUNDS = 2_000
STEPS = (10, 100, 300, 1_000, 3_000)


@contextmanager
def server() -> Iterator[None]:
    """A PostgreSQL with the platform's tables and two tenants, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="chatplatform-fence.") as place:
        os.environ["DATA_DIR"] = place
        import django

        django.setup()
        from django.db import connections

        from chatplatform import embedded
        from chatplatform.testing import cast

        with embedded.ensure(Path(place)):
            cast.prepare()
            yield
            for connection in connections.all():
                connection.close()
            connections["default"].close_pool()  # type: ignore[attr-defined]


def make(number: int) -> TenantRef:
    """One tenant more: role, schema, grants, and all tables that Acme has."""
    from chatplatform.postgres import names, roles

    schema = f"t_many_{number}"
    roles.create_schema(schema)
    with roles.admin_connection() as admin:
        admin.execute(f'SET LOCAL ROLE "{names.owner_role(str(admin.info.dbname))}"')
        for (table,) in admin.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 't_acme'"
        ).fetchall():
            admin.execute(f"CREATE TABLE {schema}.{table} (LIKE t_acme.{table} INCLUDING ALL)")
    return TenantRef(uuid4(), f"many-{number}", schema)


def measured(work: Callable[[], None], rounds: int) -> tuple[float, float]:
    """Microseconds of wall time and of CPU (ours and the server's) for one of so many rounds."""
    server = Path(f"/proc/{_backend()}/stat")
    wall, cpu = time.perf_counter(), time.process_time() + _seconds(server)
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() + _seconds(server) - cpu
    return wall / rounds * 1e6, cpu / rounds * 1e6


def _backend() -> int:
    from django.db import connection

    connection.ensure_connection()
    return int(connection.connection.info.backend_pid)


def _seconds(stat: Path) -> float:
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory() -> float:
    """MB of the server's process behind our connection that are its own."""
    rollup = Path(f"/proc/{_backend()}/smaps_rollup").read_text()
    return (
        sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_Dirty")) / 1024
    )


def look(tenants: list[TenantRef]) -> None:
    """One small read in each of these tenants."""
    from chatplatform import tenancy
    from tenants.models import Contact

    for tenant in tenants:
        with tenancy.in_tenant(tenant):
            Contact.objects.filter(pk=UUID(int=1)).exists()


def report(tenants: list[TenantRef], made_in: float) -> None:
    """One line of figures, of so many tenants."""
    from django.db import connection

    connection.close()
    connection.close_pool()  # type: ignore[attr-defined]  # the next process of the server has seen nothing yet
    two = tenants[:2]
    look(two)
    stay = measured(lambda: look(two[:1] * ROUNDS), ROUNDS)
    change = measured(lambda: look(two * (ROUNDS // 2)), ROUNDS)
    first = measured(lambda: look(tenants), len(tenants))
    again = measured(lambda: look(tenants), len(tenants))
    cells = [
        f"{len(tenants):,}",
        f"{made_in * 1000:,.0f}",
        *(f"{wall:,.0f} / {cpu:,.0f}" for wall, cpu in (stay, change, first, again)),
        f"{_memory():,.0f}",
    ]
    print("| " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tenants", type=int, default=1_000)
    wanted = parser.parse_args().tenants
    print(
        "| tenants | making the last one, ms | read in the same tenant, µs wall / CPU | in another each time "
        "| in all, first time | in all, again | MB of the server's process then |"
    )
    print("|---|---|---|---|---|---|---|")
    with server():
        tenants: list[TenantRef] = []
        for number in range(1, wanted + 1):
            began = time.perf_counter()
            tenants.append(make(number))
            if number in STEPS or number == wanted:
                report(tenants, time.perf_counter() - began)


if __name__ == "__main__":
    main()
