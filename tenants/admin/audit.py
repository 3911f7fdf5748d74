"""The audit log: looked at, searched, exported; never changed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import orjson
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponseBadRequest, HttpResponseNotAllowed, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.html import format_html
from django.utils.http import content_disposition_header
from unfold.contrib.filters.admin import (
    DropdownFilter,
    MultipleDropdownFilter,
    RangeDateTimeFilter,
    TextFilter,
)
from unfold.utils import parse_datetime_str

from chatplatform import csv_table, jobs, tenancy
from tenants import audit
from tenants.admin.pages import ReadOnlyAdmin, column
from tenants.audit import keys
from tenants.models import AuditEntry, Tenant, User
from tenants.models.audit import PLATFORM
from tenants.vocabulary import ActorKind, AuditAction

CHUNK = 1_000  # rows of an export in memory at once
COLUMNS = (
    "chain", "sequence", "at", "action", "actor_kind", "actor_id", "object_kind", "object_id", "data", "request",
    "address", "id", "key", "previous", "hash",
)  # fmt: skip
FORMATS = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl"}


class TenantFilter(DropdownFilter):  # type: ignore[misc]
    """One chain: a tenant's, or the platform's own. Tenants that were erased are found by their id."""

    title = "tenant"
    parameter_name = "tenant"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        tenants = Tenant.objects.order_by("slug").values_list("id", "slug")
        return [(str(PLATFORM), "The platform"), *((str(id), slug) for id, slug in tenants)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        chain = _uuid(self.value())
        return queryset.filter(chain=chain) if chain is not None else queryset


class ActionFilter(MultipleDropdownFilter):  # type: ignore[misc]
    """By one or several actions."""

    title = "action"
    parameter_name = "action"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return AuditAction.choices

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        return queryset.filter(action__in=self.value()) if self.value() else queryset


class ActorFilter(DropdownFilter):  # type: ignore[misc]
    """By the kind of who did it; the search finds a single one."""

    title = "who"
    parameter_name = "actor"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return ActorKind.choices

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        return queryset.filter(actor_kind=self.value()) if self.value() else queryset


class ObjectFilter(TextFilter):  # type: ignore[misc]
    """By the id of what it was done to."""

    title = "object’s id"
    parameter_name = "object"

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        return queryset.filter(object_id=self.value().strip()) if self.value() else queryset


class ObjectKindFilter(DropdownFilter):  # type: ignore[misc]
    """By the kind of what it was done to."""

    title = "object"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        kinds = dict.fromkeys(action.partition(".")[0] for action in AuditAction.values)
        return [(kind, kind.capitalize()) for kind in kinds]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        return queryset.filter(action__startswith=f"{self.value()}.") if self.value() else queryset


class TimeFilter(RangeDateTimeFilter):  # type: ignore[misc]
    """Between two times, which are UTC as all that the list shows. A day without a time is all of that day."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        found = {}
        for end, lookup, otherwise in (("from", "at__gte", "00:00:00"), ("to", "at__lte", "23:59:59.999999")):
            day, time = (self.used_parameters.get(f"at_{end}_{part}", "").strip() for part in (0, 1))
            moment = parse_datetime_str(f"{day} {time or otherwise}")
            if moment is not None:
                found[lookup] = timezone.make_aware(moment)
        return queryset.filter(**found)


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ("shown_at", "shown_tenant", "shown_action", "shown_actor", "shown_object", "shown_data")
    list_filter = (
        TenantFilter,
        ActionFilter,
        ActorFilter,
        ObjectKindFilter,
        ObjectFilter,
        ("at", TimeFilter),
    )
    list_filter_submit = True
    list_per_page = 50
    show_full_result_count = False
    search_fields = ("object_id",)
    search_help_text = "A staff account’s name; an address; or an id of an actor, object, request or entry"
    list_before_template = "admin/tenants/audit_export.html"
    fields = (
        ("shown_at", "shown_tenant"),
        ("shown_action", "shown_actor"),
        ("object_kind", "object_id"),
        "shown_data",
        ("request", "address"),
        ("chain", "sequence"),
        "key",
        "previous",
        "hash",
    )
    readonly_fields = ("shown_at", "shown_tenant", "shown_action", "shown_actor", "shown_data")

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuditEntry]:
        return AuditEntry.objects.named()

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[AuditEntry], search_term: str
    ) -> tuple[QuerySet[AuditEntry], bool]:
        """Exact, and by indexes: the log is long."""
        term = search_term.strip().replace("\0", "")
        if not term:
            return queryset, False
        people = User.objects.filter(username__icontains=term).values_list("id", flat=True)[:100]
        found = Q(actor_id__in=[term, *map(str, people)]) | Q(object_id=term) | Q(request=term)
        found |= Q(address=keys.short_hash(term))
        if (id := _uuid(term)) is not None:
            found |= Q(id=id) | Q(chain=id)
        return queryset.filter(found), False

    def get_urls(self) -> list[URLPattern]:
        export = self.admin_site.admin_view(self.export)
        return [path("export/", export, name="tenants_auditentry_export"), *super().get_urls()]

    def export(self, request: HttpRequest) -> HttpResponseBase:
        """What the list shows with the same address, all of it, oldest first: `format` is csv or jsonl."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_view_permission(request):
            raise PermissionDenied
        format = request.POST.get("format", "")
        if format not in FORMATS:
            return HttpResponseBadRequest()
        rows = self.get_changelist_instance(request).get_queryset(request).order_by("id")
        asked: dict[str, Any] = request.GET.dict()
        if "q" in asked:
            asked["q"] = audit.digest(asked["q"])
        audit.record(
            AuditAction.AUDIT_EXPORTED, tenant=_uuid(asked.get("tenant")), format=format, asked=asked
        )
        answer = StreamingHttpResponse(_streamed(rows, format), content_type=FORMATS[format])
        answer["Content-Disposition"] = content_disposition_header(True, f"audit.{format}")
        answer["X-Accel-Buffering"] = "no"
        return answer

    @column(description="At", ordering="at")
    def shown_at(self, entry: AuditEntry) -> Any:
        return entry.at

    @column(description="Tenant")
    def shown_tenant(self, entry: Any) -> str:
        return "—" if entry.chain == PLATFORM else entry.tenant_slug or f"erased ({entry.chain})"

    @column(description="Action", ordering="action")
    def shown_action(self, entry: AuditEntry) -> str:
        return entry.in_words

    @column(description="Who", header=True)
    def shown_actor(self, entry: Any) -> list[str]:
        return [_short(entry.actor_name) or "—", ActorKind(entry.actor_kind).label]

    @column(description="Object", header=True)
    def shown_object(self, entry: AuditEntry) -> list[str]:
        return [entry.object_kind, _short(entry.object_id)]

    @column(description="Details")
    def shown_data(self, entry: AuditEntry) -> str:
        said = sorted((name, value) for name, value in entry.data.items() if value not in ("", None))
        return ", ".join(f"{name}: {_plain(value)}" for name, value in said)


def _short(id: str) -> str:
    """The end of an id, which tells one from another; a pointer that rests there shows all of it."""
    return format_html('<span title="{}">…{}</span>', id, id[-12:]) if _uuid(id) else id


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


async def _streamed(rows: QuerySet[AuditEntry], format: str) -> AsyncIterator[bytes]:
    """The rows, some at a time: each time the place is found again by id, and no connection is held in between."""
    if format == "csv":
        yield csv_table.text([COLUMNS]).encode()
    last: UUID | None = None
    while True:
        chunk = await jobs.in_thread(_chunk, rows, last)
        if not chunk:
            return
        last = chunk[-1]["id"]
        yield csv_table.text(map(_cells, chunk)).encode() if format == "csv" else b"".join(map(_line, chunk))


def _chunk(rows: QuerySet[AuditEntry], after: UUID | None) -> list[dict[str, Any]]:
    with tenancy.in_platform():
        wanted = rows if after is None else rows.filter(id__gt=after)
        return list(wanted.values(*COLUMNS)[:CHUNK])


def _line(row: dict[str, Any]) -> bytes:
    return orjson.dumps(row, option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE)


def _cells(row: dict[str, Any]) -> list[str]:
    shown = row | {"at": row["at"].isoformat(), "data": orjson.dumps(row["data"]).decode()}
    return [str(shown[name]) for name in COLUMNS]


def _uuid(text: Any) -> UUID | None:
    try:
        return UUID(text) if text else None
    except (ValueError, TypeError, AttributeError):
        return None
