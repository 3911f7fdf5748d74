"""`manage.py verify_audit_log [SLUG | --platform]`"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.management.base import CommandParser

from chatplatform.management.base import PlatformCommand, Result, UsageError
from tenants.audit import anchors, verification
from tenants.audit.anchors import Anchors
from tenants.models import Tenant
from tenants.models.audit import PLATFORM


class Command(PlatformCommand):
    help = (
        "Look for edits, deletions, reordering and truncation in the audit log, and say which rows. Without arguments: "
        "every chain. Status 1 if anything is wrong. Needs the audit secret and the anchors."
    )

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", metavar="SLUG", nargs="?", help="The tenant; of an erased one, its id")
        parser.add_argument("--platform", action="store_true", help="The platform's own chain")
        parser.add_argument(
            "--anchors",
            metavar="FILE",
            dest="files",
            type=Path,
            action="append",
            default=[],
            help="Another file with anchors in it, a log for instance; may be repeated",
        )

    def run(self, *, slug: str | None, platform: bool, files: list[Path], **options: Any) -> Result:
        if slug and platform:
            raise UsageError("Give the SLUG of a tenant or --platform, or neither for all.")
        one = PLATFORM if platform else _chain(slug) if slug else None
        held = _anchors(files, one)
        wanted = [one] if one is not None else sorted({*verification.chains(), *held})
        result: Result = {"chains": len(wanted), "rows": 0, "unanchored": 0, "findings": []}
        names = dict(Tenant.objects.filter(id__in=wanted).values_list("id", "slug"))
        for chain in self.progress(wanted, lambda chain: _name(chain, names)):
            report = verification.verify(chain, held.get(chain, {}))
            result["rows"] += report.rows
            result["unanchored"] += report.unanchored
            result["findings"] += [
                {
                    "chain": _name(chain, names),
                    "sequence": found.sequence,
                    "row": str(found.row) if found.row else None,
                    "wrong": str(found.wrong),
                    "detail": found.detail,
                }
                for found in report.findings
            ]
        return result

    def as_text(self, result: Result) -> str:
        lines = [
            f"{one['chain']}, row {one['sequence']}{' (' + one['row'] + ')' if one['row'] else ''}: "
            f"{one['wrong']}. {one['detail']}"
            for one in result["findings"]
        ]
        said = f"{result['rows']} rows in {result['chains']} chains, {result['unanchored']} not yet anchored."
        return "\n".join([*lines, said])

    def failure(self, result: Result) -> str | None:
        found = len(result["findings"])
        return f"The audit log was tampered with: {found} findings." if found else None


def _chain(slug: str) -> UUID:
    try:
        return UUID(slug)
    except ValueError:
        return Tenant.objects.values_list("id", flat=True).get(slug=slug)


def _name(chain: UUID, names: dict[UUID, str]) -> str:
    return "platform" if chain == PLATFORM else names.get(chain, str(chain))


def _anchors(files: list[Path], chain: UUID | None) -> dict[UUID, Anchors]:
    held: dict[UUID, Anchors] = {}
    own = anchors.place()
    for file in [*([own] if own.exists() else []), *files]:
        try:
            found = anchors.read(file, chain)
        except OSError as error:
            raise UsageError(f"{file} cannot be read: {error.strerror}.") from error
        for where, lines in found.items():
            held.setdefault(where, {}).update(lines)
    return held
