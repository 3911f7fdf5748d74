"""`manage.py suspend_tenant SLUG`"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from chatplatform.management.base import PlatformCommand, Result
from tenants.services import lifecycle


class Command(PlatformCommand):
    help = "Refuse a tenant in every process within 5 seconds, and close its sockets. Nothing is deleted."

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", metavar="SLUG", help="The tenant")

    def run(self, *, slug: str, **options: Any) -> Result:
        return {"tenant": slug, "status": str(lifecycle.suspend(slug).status)}
