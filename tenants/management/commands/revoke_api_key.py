"""`manage.py revoke_api_key ID`"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from chatplatform.management.base import PlatformCommand, Result
from tenants.services import api_keys


class Command(PlatformCommand):
    help = "Stop an API key in every process within 5 seconds. Revoking twice changes nothing."

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", metavar="ID", help="The key's id: its third part, `cp_…_<ID>_…`")

    def run(self, *, id: str, **options: Any) -> Result:
        key = api_keys.revoke(id)
        assert key.revoked_at is not None
        return {
            "id": key.public_id,
            "tenant": key.tenant.slug if key.tenant else None,
            "revoked_at": key.revoked_at.isoformat(),
        }
