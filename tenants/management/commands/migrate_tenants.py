"""`manage.py migrate_tenants`: roles, the shared tables, then every tenant's schema that is behind."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from chatplatform.management.base import PlatformCommand, Result, one_line
from chatplatform.postgres import migrations, roles
from tenants.audit import looks
from tenants.models import Tenant
from tenants.services import migration


class Command(PlatformCommand):
    help = (
        "Bring the database up to date: roles, shared tables, then the tenants' schemas that are behind. "
        "Safe to repeat: it goes on where it stopped. A tenant that fails is reported and the others go on; "
        "a canary that fails stops everything after the canaries."
    )

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--canary",
            metavar="SLUG",
            dest="canaries",
            nargs="+",
            action="extend",
            default=[],
            help="Tenants to migrate first",
        )

    def run(self, *, canaries: list[str], **options: Any) -> Result:
        roles.prepare_database()
        with migration.alone():
            migrations.migrate_shared()
            looks.adopt()
            first, others = migration.behind(canaries)
            migrated, failed = self._migrate(first)
            skipped = [tenant.slug for tenant in others] if failed else []
            if not failed:
                migrated_too, failed = self._migrate(others)
                migrated += migrated_too
        return {"migrated": migrated, "failed": failed, "skipped": skipped}

    def _migrate(self, tenants: list[Tenant]) -> tuple[list[str], list[Result]]:
        migrated, failed = [], []
        for tenant in self.progress(tenants, lambda tenant: tenant.slug):
            try:
                migration.bring_up_to_date(tenant)
                migrated.append(tenant.slug)
                self.say(f"{tenant.slug}: migrated")
            except Exception as error:  # one tenant's trouble is not the others'
                failed.append({"tenant": tenant.slug, "error": one_line(error)})
                self.say(f"{tenant.slug}: FAILED: {one_line(error)}")
        return migrated, failed

    def as_text(self, result: Result) -> str:
        counts = {name: len(result[name]) for name in ("migrated", "failed", "skipped") if result[name]}
        return ", ".join(f"{count} {name}" for name, count in counts.items()) or "Everything is up to date."

    def failure(self, result: Result) -> str | None:
        names = ", ".join(one["tenant"] for one in result["failed"])
        return f"Not migrated: {names}. Run the command again when the cause is gone." if names else None
