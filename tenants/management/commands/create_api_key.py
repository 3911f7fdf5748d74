"""`manage.py create_api_key (SLUG | --platform) --scope S…`"""

from __future__ import annotations

from argparse import ArgumentTypeError
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandParser

from chatplatform.management.base import PlatformCommand, Result, UsageError
from tenants.models import Tenant
from tenants.services import api_keys
from tenants.vocabulary import Scope


def duration(text: str) -> timedelta:
    """`90d`, `12h`, `30m`."""
    try:
        return api_keys.duration(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error


class Command(PlatformCommand):
    help = "Make an API key for a tenant, or for the platform's staff. The key is shown once."

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", metavar="SLUG", nargs="?", help="The tenant")
        parser.add_argument("--platform", action="store_true", help="A key for all tenants, for staff only")
        parser.add_argument(
            "--scope",
            metavar="S",
            dest="scopes",
            nargs="+",
            action="extend",
            required=True,
            choices=Scope.values,
            help=", ".join(Scope.values),
        )
        parser.add_argument(
            "--expires-in", metavar="90d", type=duration, help="Time it is good for (default: no end)"
        )
        parser.add_argument("--name", metavar="N", default="", help="What it is for")

    def run(
        self,
        *,
        slug: str | None,
        platform: bool,
        scopes: list[str],
        expires_in: timedelta | None,
        name: str,
        **options: Any,
    ) -> Result:
        if bool(slug) == platform:
            raise UsageError("Give either the SLUG of a tenant or --platform.")
        tenant = Tenant.objects.get(slug=slug) if slug else None
        key, shown = api_keys.create(tenant, scopes, expires_in=expires_in, name=name)
        expires_at = key.expires_at.isoformat() if key.expires_at else None
        return {"id": key.public_id, "api_key": shown, "scopes": key.scopes, "expires_at": expires_at}
