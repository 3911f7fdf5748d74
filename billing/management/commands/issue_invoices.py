"""`manage.py issue_invoices --month YYYY-MM [--tenant SLUG] [--dry-run]`"""

from __future__ import annotations

from datetime import date
from typing import Any

from django.core.management.base import CommandParser

from billing.management.arguments import month
from billing.services import invoices
from billing.services.drafts import draft
from chatplatform.management.base import PlatformCommand, Result, one_line, table
from tenants.models import Tenant

COLUMNS = ("tenant", "status", "number", "total", "currency")


class Command(PlatformCommand):
    help = (
        "Issue the invoices of a month, of all tenants or of some. Safe to repeat: what is issued is found and stays "
        "as it is. A tenant that fails is reported and the others go on. The month has to be over, for an hour."
    )

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--month", metavar="YYYY-MM", type=month, required=True, help="The month (UTC)")
        parser.add_argument(
            "--tenant",
            metavar="SLUG",
            dest="tenants",
            action="append",
            default=[],
            help="Only this one; repeatable",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="Only show what they would be; of any month, even this one"
        )

    def run(self, *, month: date, tenants: list[str], dry_run: bool, **options: Any) -> Result:
        if not dry_run:
            invoices.check_over(month)
        done: list[Result] = []
        failed: list[Result] = []
        for tenant in self.progress(invoices.billed_tenants(month, tenants), lambda tenant: tenant.slug):
            try:
                done.append(_previewed(tenant, month) if dry_run else _issued(tenant, month))
            except Exception as error:  # one tenant's trouble is not the others'
                failed.append({"tenant": tenant.slug, "error": one_line(error)})
                self.say(f"{tenant.slug}: FAILED: {one_line(error)}")
        shown = [one for one in done if one["status"] != "nothing"]
        for one in shown:
            if one["late"]:
                self.say(f"{one['tenant']}: {one['late']} calls came in after {one['number']} was issued.")
        return {
            "month": f"{month:%Y-%m}",
            "dry_run": dry_run,
            "invoices": shown,
            "nothing": len(done) - len(shown),
            "failed": failed,
        }

    def as_text(self, result: Result) -> str:
        counts = dict.fromkeys(("issued", "was issued", "would be issued"), 0)
        for one in result["invoices"]:
            counts[one["status"]] += 1
        said = [f"{count} {status}" for status, count in counts.items() if count]
        said += [f"{result['nothing']} with nothing to bill"] if result["nothing"] else []
        said += [f"{len(result['failed'])} failed"] if result["failed"] else []
        shown = [table(COLUMNS, result["invoices"])] if result["invoices"] else []
        return "\n".join([*shown, f"{result['month']}: {', '.join(said) or 'no tenants'}."])

    def failure(self, result: Result) -> str | None:
        names = ", ".join(one["tenant"] for one in result["failed"])
        return f"No invoice for: {names}. Run the command again when the cause is gone." if names else None


def _issued(tenant: Tenant, month: date) -> Result:
    came = invoices.issue(tenant, month, author="issue_invoices")
    if came.document is None:
        return {"tenant": tenant.slug, "status": "nothing"}
    return {
        "tenant": tenant.slug,
        "status": "issued" if came.is_new else "was issued",
        "number": came.document.name,
        "id": str(came.document.document),
        "total": str(came.document.total),
        "currency": "USD",
        "late": came.late,
    }


def _previewed(tenant: Tenant, month: date) -> Result:
    prepared = draft(tenant, month)
    if prepared is None:
        return {"tenant": tenant.slug, "status": "nothing"}
    return {
        "tenant": tenant.slug,
        "status": "would be issued",
        "number": None,
        "id": None,
        "lines": [{"description": line.description, "amount": str(line.amount)} for line in prepared.lines],
        "total": str(prepared.sums.total),
        "currency": "USD",
        "late": 0,
    }
