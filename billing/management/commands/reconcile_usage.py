"""`manage.py reconcile_usage --provider NAME --file FILE [--month YYYY-MM] [--bound 1%] [--metrics FILE]`"""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Iterator
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from billing import exports, months
from billing.management.arguments import month
from billing.services import reconciliation
from billing.services.invoices import billed_tenants
from billing.services.reconciliation import Difference
from chatplatform.management.base import Error, PlatformCommand, Result, UsageError, table
from chatplatform.observability import metrics
from tenants.models import Tenant

COLUMNS = ("day", "model", "measure", "ours", "theirs", "difference", "percent", "estimated")


def bound(text: str) -> Decimal:
    """A share such as 1% or 0.01."""
    try:
        share = Decimal(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except InvalidOperation as error:
        raise ArgumentTypeError(f"{text!r} is not a share such as 1%") from error
    if not 0 <= share <= 1:
        raise ArgumentTypeError(f"{text!r} is not between 0% and 100%")
    return share


class Command(PlatformCommand):
    help = (
        "Compare the ledger of all tenants with a provider's own export of usage or costs (JSON of its API, or CSV of "
        "its console), per day (UTC) and model. Status 1 if anything is further apart than the bound."
    )

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--provider", choices=sorted(exports.FORMATS), required=True, help="Whose export")
        parser.add_argument("--file", type=Path, required=True, help="The export")
        parser.add_argument("--month", metavar="YYYY-MM", type=month, help="Default: the days of the export")
        parser.add_argument(
            "--bound", type=bound, default=Decimal("0.01"), help="What may differ (default: 1%%)"
        )
        parser.add_argument("--all", action="store_true", help="Print what agrees, too")
        parser.add_argument(
            "--metrics", type=Path, metavar="FILE", help="Write the result for Prometheus' node exporter, too"
        )

    def run(
        self,
        *,
        provider: str,
        file: Path,
        month: date | None,
        bound: Decimal,
        all: bool,
        **options: Any,
    ) -> Result:
        export = self._read(provider, file)
        if not export.is_complete:
            self.say("The export says that there are more pages: add them, as a JSON list of all pages.")
        days = reconciliation.days_of(export, (month, months.last_day(month)) if month else None)
        report = reconciliation.compare(provider, export, days, bound, self._tenants(days[1]))
        if path := options["metrics"]:
            metrics.write_reconciliation(path)
        return {
            "provider": provider,
            "first": f"{report.first}",
            "last": f"{report.last}",
            "bound": str(bound),
            "complete": export.is_complete,
            "over": len(report.over),
            "rows": [_shown(row) for row in report.rows if all or options["json"] or row.over],
            "totals": [_shown(total) for total in report.totals],
        }

    def _read(self, provider: str, file: Path) -> exports.Export:
        try:
            return exports.read(provider, file.read_text())
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{file} cannot be read.") from error
        except exports.Unreadable as error:
            raise Error(str(error)) from error

    def _tenants(self, last: date) -> Iterator[Tenant]:
        return self.progress(billed_tenants(last.replace(day=1)), lambda tenant: tenant.slug)

    def as_text(self, result: Result) -> str:
        rows = [*result["rows"], *({**total, "day": "all"} for total in result["totals"])]
        days = f"{result['provider']}, {result['first']} to {result['last']}"
        return f"{table(COLUMNS, rows)}\n{days}: {result['over']} over the bound of {result['bound']}."

    def failure(self, result: Result) -> str | None:
        over = result["over"]
        return f"{over} of the figures differ by more than the bound." if over else None


def _shown(row: Difference) -> Result:
    return {
        "day": f"{row.day}" if row.day else None,
        "model": row.model,
        "measure": row.measure,
        "ours": f"{row.ours.normalize():f}",
        "theirs": f"{row.theirs.normalize():f}",
        "difference": f"{row.difference.normalize():f}",
        "percent": f"{row.ratio * 100:.2f}",
        "estimated": row.estimated,
        "over": row.over,
    }
