"""`manage.py check_platform`: is everything there, and is it well?"""

from __future__ import annotations

from typing import Any

from chatplatform import jobs
from chatplatform.management import checks
from chatplatform.management.base import PlatformCommand, Result
from chatplatform.management.findings import Finding, Status

MARKS = {Status.OK: "ok     ", Status.WARNING: "warning", Status.FAILED: "FAILED "}


class Command(PlatformCommand):
    help = (
        "Look at every dependency, key, migration state and clock, each with a hint if something is wrong. "
        "Warnings leave the exit status at 0."
    )

    def run(self, **options: Any) -> Result:
        found = [
            (check.name, self._look(check))
            for check in self.progress(checks.CHECKS, lambda check: check.name)
        ]
        return {
            "ok": all(finding.status is not Status.FAILED for _, finding in found),
            "checks": [
                {"name": name, "status": finding.status, "detail": finding.detail, "hint": finding.hint}
                for name, finding in found
            ],
        }

    def _look(self, check: checks.Check) -> Finding:
        finding = check.run()
        jobs.close_connections()  # it may have left a broken transaction behind
        return finding

    def as_text(self, result: Result) -> str:
        return "\n".join(line for check in result["checks"] for line in _lines(check))

    def failure(self, result: Result) -> str | None:
        names = ", ".join(check["name"] for check in result["checks"] if check["status"] == Status.FAILED)
        return f"Not well: {names}" if names else None


def _lines(check: Result) -> list[str]:
    line = f"{MARKS[check['status']]}  {check['name']}: {check['detail']}"
    return [line, f"         → {check['hint']}"] if check["hint"] else [line]
