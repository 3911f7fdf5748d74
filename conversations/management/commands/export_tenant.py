"""`manage.py export_tenant SLUG FILE [--contact ID]`"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from chatplatform import tenancy
from chatplatform.management.base import Error, PlatformCommand, Result
from conversations.services import archives, erasure
from tenants.models import Tenant


class Command(PlatformCommand):
    help = (
        "Write all that a tenant has, or all of one of its end users, into a ZIP file with checksums. Texts are in the "
        "clear in it. Keys, members, host names and the audit log stay out."
    )

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", metavar="SLUG", help="The tenant")
        parser.add_argument("file", metavar="FILE", type=Path, help="A file that is not there yet")
        parser.add_argument("--contact", metavar="ID", help="The end user's id at the tenant, or ours")

    def run(self, *, slug: str, file: Path, contact: str | None, **options: Any) -> Result:
        tenant = Tenant.objects.get(slug=slug)
        if file.exists():
            raise Error(f"{file} is there already.")
        if contact is None:
            return {"file": str(file), "rows": archives.export_tenant(tenant, file)}
        with tenancy.in_tenant(tenant.ref):
            return {"file": str(file), "rows": archives.export_contact(erasure.access_contact(contact), file)}

    def as_text(self, result: Result) -> str:
        return f"{sum(result['rows'].values())} rows are in {result['file']}."
