"""`manage.py import_tenant FILE [--slug SLUG]`"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from chatplatform.management.base import Error, PlatformCommand, Result
from conversations.services import archives


class Command(PlatformCommand):
    help = (
        "Make a tenant out of an archive of `export_tenant`, of this installation or another one. It has no API key "
        "that anybody knows, no members and no host names of its own."
    )

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", type=Path, help="The archive")
        parser.add_argument("--slug", metavar="SLUG", help="Another slug than it had")

    def run(self, *, file: Path, slug: str | None, **options: Any) -> Result:
        try:
            tenant = archives.import_tenant(file, slug)
        except archives.Unreadable as error:
            raise Error(str(error)) from error
        return {"tenant": tenant.slug, "id": str(tenant.id), "status": tenant.status}

    def as_text(self, result: Result) -> str:
        return f"{result['tenant']} is {result['status']}. Make it a key: create_api_key {result['tenant']}."
