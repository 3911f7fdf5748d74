"""`manage.py rotate_api_key ID [--overlap 24h]`"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import CommandParser

from chatplatform.management.base import PlatformCommand, Result
from tenants.management.commands.create_api_key import duration
from tenants.services import api_keys


class Command(PlatformCommand):
    help = "Make a new API key like this one, and let the old one end. The new key is shown once."

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", metavar="ID", help="The key's id: its third part, `cp_…_<ID>_…`")
        parser.add_argument(
            "--overlap",
            metavar="24h",
            type=duration,
            default=timedelta(hours=24),
            help="Time the old key goes on for (default: 24h; 0s stops it now)",
        )

    def run(self, *, id: str, overlap: timedelta, **options: Any) -> Result:
        old, new, shown = api_keys.rotate(id, overlap)
        assert old.expires_at is not None
        return {
            "id": new.public_id,
            "api_key": shown,
            "scopes": new.scopes,
            "expires_at": new.expires_at.isoformat() if new.expires_at else None,
            "replaces": {"id": old.public_id, "expires_at": old.expires_at.isoformat()},
        }
