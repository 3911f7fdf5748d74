"""`manage.py erase_tenant SLUG`"""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import CommandParser

from chatplatform.management.base import Error, PlatformCommand, Result
from tenants.models import Tenant
from tenants.services import lifecycle


class Command(PlatformCommand):
    help = (
        "Delete a tenant for good: schema, role, keys, configuration, conversations. Prints a signed "
        "certificate, which the audit log keeps, too. On a terminal it asks."
    )

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", metavar="SLUG", help="The tenant")
        parser.add_argument("--yes", action="store_true", help="Do not ask")

    def run(self, *, slug: str, yes: bool, **options: Any) -> Result:
        tenant = Tenant.objects.get(slug=slug)
        if not yes and sys.stdin.isatty():
            self._confirm(tenant)
        certificate = lifecycle.erase(slug)
        return {"tenant": slug, "status": "erased", "certificate": certificate}

    def _confirm(self, tenant: Tenant) -> None:
        # Not input(): its prompt would go to stdout, which is the result's.
        self.say(f"This deletes {tenant.name} with everything it ever stored. Type its slug to go on:")
        if sys.stdin.readline().strip() != tenant.slug:
            raise Error("Nothing was deleted.")
