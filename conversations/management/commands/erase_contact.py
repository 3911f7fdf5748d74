"""`manage.py erase_contact SLUG ID`"""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import CommandParser

from chatplatform import tenancy
from chatplatform.management.base import Error, PlatformCommand, Result
from conversations.services import erasure
from tenants.models import Tenant


class Command(PlatformCommand):
    help = (
        "Forget an end user of a tenant: conversations, messages, ratings and the key that sealed them. Prints a "
        "signed certificate, which the audit log keeps, too. On a terminal it asks."
    )

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", metavar="SLUG", help="The tenant")
        parser.add_argument("contact", metavar="ID", help="The end user's id at the tenant, or ours")
        parser.add_argument("--yes", action="store_true", help="Do not ask")

    def run(self, *, slug: str, contact: str, yes: bool, **options: Any) -> Result:
        tenant = Tenant.objects.get(slug=slug)
        with tenancy.in_tenant(tenant.ref):
            found = erasure.access_contact(contact)
            if not yes and sys.stdin.isatty():
                self._confirm(contact)
            return erasure.erase_contact(found)

    def as_text(self, result: Result) -> str:
        return json.dumps(result, indent=2)

    def _confirm(self, contact: str) -> None:
        self.say("This deletes all that was ever said with this end user. Type the ID again to go on:")
        if sys.stdin.readline().strip() != contact:
            raise Error("Nothing was deleted.")
