"""The reports of `manage.py check_isolation`, to be looked at."""

from __future__ import annotations

from django.contrib import admin
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from tenants.admin.pages import ReadOnlyAdmin, column
from tenants.models import IsolationReport

STATES = {"nothing wrong": "success", "wrong": "danger", "not finished": "warning"}


@admin.register(IsolationReport)
class IsolationReportAdmin(ReadOnlyAdmin):
    list_display = ("began_at", "state", "walked")
    list_before_template = "admin/tenants/isolation_about.html"
    fields = readonly_fields = ("began_at", "state", "walked", "findings", "elsewhere")

    @column(description="Result", label=STATES)
    def state(self, row: IsolationReport) -> str:
        return "not finished" if row.ok is None else "nothing wrong" if row.ok else "wrong"

    @column(description="Walked")
    def walked(self, row: IsolationReport) -> str:
        counted = row.report.get("walked", {}).items()
        return ", ".join(f"{one['walked']} of {one['found']} {kind}" for kind, one in counted)

    @column(description="Findings")
    def findings(self, row: IsolationReport) -> str | SafeString:
        found = row.report.get("findings", ())
        return _listed((one["where"], one["what"]) for one in found) if found else "None"

    @column(description="Not run by it")
    def elsewhere(self, row: IsolationReport) -> SafeString:
        return _listed(row.report.get("elsewhere", {}).items())


def _listed(pairs: object) -> SafeString:
    return format_html("<ul>{}</ul>", format_html_join("", "<li>{}: {}</li>", pairs))  # type: ignore[arg-type]
