"""What stands while it is measured: the platform as shipped, the simulator, and the clients' process."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chatplatform.testing.live import Live

ROOT = Path(__file__).resolve().parent.parent
TENANTS = tuple(f"bench-{number}" for number in range(1, 9))
# What the kit for tests sets otherwise than the product ships it; the product's own defaults again.
SHIPPED = {
    "RECONCILE_EVERY": "3",
    "LEASE_SECONDS": "6",
    "INTER_TOKEN_TIMEOUT": "20",
    "LOG_LEVEL": "WARNING",
}
OnEvent = Callable[[dict[str, Any]], None]


@dataclass
class Stand:
    """Everything is up."""

    live: Live
    server: str
    keys: dict[str, str]
    environment: Mapping[str, str]
    data_dir: Path

    @property
    def platform(self) -> dict[str, Any]:
        return {"host": "127.0.0.1", "port": self.live.port}

    @property
    def simulator(self) -> dict[str, Any]:
        return {"host": self.live.simulator.host, "port": self.live.simulator.port}

    def seats(
        self, count: int, model: str, tenants: Sequence[str] = TENANTS, *, end_users: bool = False
    ) -> list[tuple[str, str]]:
        """So many new conversations, in turn of each tenant, with a key that may use them; each with an `end_user` of
        its own, or with nobody's. Written straight to the tables: making conversations is not what is measured.
        """
        from chatplatform import tenancy
        from chatplatform.testing import cast
        from conversations.models import Conversation
        from tenants.models import Contact

        made: list[list[tuple[str, str]]] = []
        for number, slug in enumerate(tenants):
            rows = [Conversation(model=model) for _ in range(len(range(number, count, len(tenants))))]
            with tenancy.in_tenant(cast.state(slug).ref):
                if end_users:
                    for row, contact in zip(
                        rows, Contact.objects.bulk_create(Contact() for _ in rows), strict=True
                    ):
                        row.contact = contact
                Conversation.objects.bulk_create(rows)
            made.append([(str(row.id), self.keys[slug]) for row in rows])
        return [made[number % len(tenants)][number // len(tenants)] for number in range(count)]

    def more_tenants(self, count: int) -> tuple[str, ...]:
        """So many more tenants."""
        slugs = tuple(f"bench-{len(self.keys) + number}" for number in range(1, count + 1))
        self.keys.update(_tenants(slugs))
        return slugs

    def leave_in_the_clear(self, tenants: Sequence[str]) -> None:
        """Have these tenants' texts stored as they are from now on."""
        from chatplatform import tenancy
        from tenants import control
        from tenants.models import Tenant

        with tenancy.in_platform():
            rows = Tenant.objects.filter(slug__in=tenants)
            rows.update(encrypts=False)
            for tenant in rows:
                control.tenant_changed(tenant.id)
        time.sleep(1)  # the control bus tells all processes

    def settled(self, model: str) -> int:
        """How many replies of this model PostgreSQL has as completed, with what they used."""
        from chatplatform import tenancy
        from chatplatform.testing import cast
        from conversations.models import Reply

        total = 0
        for slug in TENANTS:
            with tenancy.in_tenant(cast.state(slug).ref):
                rows = Reply.objects.filter(
                    conversation__model=model, status="completed", output_tokens__gt=0
                )
                total += rows.count()
        return total

    def limit(self, tenants: Sequence[str]) -> None:
        """Give these tenants rate limits and budgets on all levels, so large that nothing is refused."""
        from decimal import Decimal

        from chatplatform.testing import cast
        from tenants.services import configuration

        money = Decimal(1_000_000)
        limits = {
            "requests_per_minute": 1_000_000, "tokens_per_minute": 10**9, "user_requests_per_minute": 1_000_000,
            "monthly_token_budget": 10**12, "monthly_cost_budget_usd": money, "daily_cost_budget_usd": money,
            "conversation_cost_budget_usd": money, "user_monthly_cost_budget_usd": money,
        }  # fmt: skip
        for slug in tenants:
            configuration.change(cast.state(slug).ref, limits, author="bench", by_staff=True)

    def admissions(self) -> dict[float, float]:
        """How many messages the web process has admitted within so many seconds."""
        found = re.findall(r'chatplatform_admission_seconds_bucket{le="([^"]+)"} (\S+)', self._metrics())
        return {float(bucket): float(count) for bucket, count in found}

    def unchecked(self) -> float:
        """How many calls the web process has let pass without asking the limiter, which was away or slow."""
        return sum(
            map(float, re.findall(r"(?m)^chatplatform_rate_limiter_unchecked_total (\S+)", self._metrics()))
        )

    def _metrics(self) -> str:
        request = urllib.request.Request(f"{self.live.url}/metrics", headers={"Host": "localhost"})
        with urllib.request.urlopen(request) as answer:
            text: str = answer.read().decode()
        return text

    def durability(self) -> dict[str, str]:
        """What PostgreSQL was told about it."""
        from django.db import connection

        from chatplatform import tenancy

        names = ("fsync", "synchronous_commit", "full_page_writes")
        with tenancy.in_platform(), connection.cursor() as cursor:
            cursor.execute("SELECT " + ", ".join(f"current_setting('{name}')" for name in names))
            return dict(zip(names, cursor.fetchone() or (), strict=True))

    def clients(self, on_event: OnEvent = lambda event: None, **job: Any) -> dict[str, Any]:
        """Let the clients do a job; see `loadtests.client`. Raises RuntimeError if they fail."""
        self.live.simulator.control(reset=True)
        command = [sys.executable, "-m", "loadtests.client"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        try:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(
                json.dumps({"simulator": self.simulator, "to": self.platform, **job}).encode()
            )
            process.stdin.close()
            for line in process.stdout:
                told = json.loads(line)
                if "result" in told:
                    result: dict[str, Any] = told["result"]
                    return result
                on_event(told)
        finally:
            process.terminate()
            process.wait()
        raise RuntimeError(f"the clients ended with {process.returncode}")


@contextmanager
def standing(server: str, data_dir: Path, more: Mapping[str, str]) -> Iterator[Stand]:
    """The platform under one server, with data of its own. `more` goes to its environment."""
    _raise_file_limit()
    for name in ("DATABASE_URL", "DATABASE_ADMIN_URL", "REDIS_URL", "OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        os.environ.pop(name, None)
    os.environ.update(
        DATA_DIR=str(data_dir), DJANGO_SETTINGS_MODULE="chatplatform.settings", LOG_LEVEL="WARNING"
    )
    import django

    django.setup()
    from chatplatform import embedded
    from chatplatform.testing import cast
    from chatplatform.testing.live import running_platform
    from chatplatform.testing.simulator.runner import simulator_process

    with ExitStack() as stack:
        stack.enter_context(embedded.ensure(data_dir))
        cast.prepare()
        keys = _tenants(TENANTS)
        simulator = stack.enter_context(simulator_process("--ttft", "0"))
        live = stack.enter_context(
            running_platform(server, simulator=simulator, environment={**SHIPPED, **more})
        )
        yield Stand(live, server, keys, more, data_dir)


def _tenants(slugs: Sequence[str]) -> dict[str, str]:
    """New tenants, each with a key."""
    from chatplatform.testing import cast
    from tenants.services import provisioning

    for slug in slugs:
        # Streams that are to be live all at once are longer than what a tenant's reply may be otherwise.
        longest = {"max_tokens_per_response": 4096}
        tenant, _, _ = provisioning.request_tenant(slug.title(), slug, configuration=longest)
        provisioning.provision(tenant.id)
    return {slug: cast.key(slug) for slug in slugs}


def _raise_file_limit() -> None:
    """A socket is a file; servers inherit the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def file_limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
