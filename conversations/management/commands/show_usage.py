"""`manage.py show_usage SLUG [--month YYYY-MM]`"""

from __future__ import annotations

from datetime import date
from typing import Any

from django.core.management.base import CommandParser

from billing.management.arguments import month
from chatplatform import tenancy
from chatplatform.management.base import PlatformCommand, Result
from conversations.services import usage
from tenants import selectors


class Command(PlatformCommand):
    help = "Show what a tenant used in a month (UTC): tokens, calls, cost, budgets."

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", metavar="SLUG", help="The tenant")
        parser.add_argument("--month", metavar="YYYY-MM", type=month, help="Default: this month")

    def run(self, *, slug: str, month: date | None, **options: Any) -> Result:
        tenant = selectors.tenant_by_slug(slug)
        with tenancy.in_tenant(tenant.ref):
            return {"tenant": slug, **usage.of_month(tenant, month)}
