"""What staff looked at, and what staff changed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.contrib.filters.admin import DropdownFilter, RelatedDropdownFilter

from tenants.admin.pages import ReadOnlyAdmin, column
from tenants.models import StaffLook
from tenants.vocabulary import LookAction


class LookFilter(DropdownFilter):  # type: ignore[misc]
    """By what was done, in words."""

    title = "action"
    parameter_name = "action"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(action.value, action.label) for action in LookAction]

    def queryset(self, request: HttpRequest, queryset: QuerySet[StaffLook]) -> QuerySet[StaffLook]:
        return queryset.filter(action=self.value()) if self.value() in LookAction.values else queryset


@admin.register(StaffLook)
class StaffLookAdmin(ReadOnlyAdmin):
    """Each look of staff into a tenant."""

    list_display = ("at", "user", "tenant", "shown_action", "path")
    list_filter = (("tenant", RelatedDropdownFilter), ("user", RelatedDropdownFilter), LookFilter)
    list_filter_submit = True
    list_select_related = ("user", "tenant")
    search_fields = ("user__username", "tenant__slug", "path")
    search_help_text = "Who, which tenant, or part of the address"
    date_hierarchy = "at"

    @column(description="Action", ordering="action")
    def shown_action(self, look: StaffLook) -> str:
        return LookAction(look.action).label if look.action in LookAction.values else look.action


@admin.register(LogEntry)
class LogEntryAdmin(ReadOnlyAdmin):
    """Each change made in the console."""

    list_display = ("shown_at", "user", "shown_kind", "shown_object", "shown_message")
    list_filter = (("user", RelatedDropdownFilter), "action_flag")
    list_filter_submit = True
    list_select_related = ("user", "content_type")
    search_fields = ("user__username", "object_repr", "change_message")
    search_help_text = "Who, what, or part of the note"
    date_hierarchy = "action_time"

    @column(description="At", ordering="action_time")
    def shown_at(self, entry: LogEntry) -> datetime:
        return entry.action_time

    @column(description="What", ordering="object_repr")
    def shown_object(self, entry: LogEntry) -> str:
        return entry.object_repr

    @column(description="Kind", ordering="content_type")
    def shown_kind(self, entry: LogEntry) -> str:
        return entry.content_type.name if entry.content_type else "—"

    @column(description="What happened")
    def shown_message(self, entry: LogEntry) -> str:
        return entry.get_change_message()
