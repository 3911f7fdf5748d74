"""`manage.py show_usage SLUG [--month YYYY-MM]`"""

from __future__ import annotations

from argparse import ArgumentTypeError
from typing import Any

from django.core.management.base import CommandParser

from chatplatform import tenancy
from chatplatform.management.base import PlatformCommand, Result
from conversations.services import usage
from tenants import selectors


def month(text: str) -> str:
    """A month such as 2026-11."""
    if not usage.MONTH.fullmatch(text) or not 1970 <= int(text[:4]) < 9999:
        raise ArgumentTypeError(f"{text!r} is not a month such as 2026-11")
    return text


class Command(PlatformCommand):
    help = "Show what a tenant used in a month (UTC): tokens, calls, cost, budgets."

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", metavar="SLUG", help="The tenant")
        parser.add_argument("--month", metavar="YYYY-MM", type=month, help="Default: this month")

    def run(self, *, slug: str, month: str | None, **options: Any) -> Result:
        tenant = selectors.tenant_by_slug(slug)
        with tenancy.in_tenant(tenant.ref):
            return {"tenant": slug, **usage.of_month(tenant, month)}
