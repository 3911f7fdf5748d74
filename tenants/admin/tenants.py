"""Tenants: the list, a tenant's first page, and the pages below it."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import URLPattern
from unfold.admin import ModelAdmin

from chatplatform.api.fields import one_line
from chatplatform.api.problem import Problem
from tenants.admin import births, configuration, domains, members, sign_in
from tenants.admin.pages import STATUS_COLOURS, Page, Visit, column, confirm, tenant_context, urls
from tenants.models import Tenant
from tenants.services import lifecycle, profile
from tenants.vocabulary import Tier


def suspend(visit: Visit) -> HttpResponseBase:
    """Asks, then suspends."""
    text = (
        f"Within five seconds {visit.tenant.name} answers nobody any more: its pages and its API refuse, and open "
        "chats are closed. Nothing is deleted; resuming brings everything back."
    )
    return _moved(visit, lifecycle.suspend, "suspended", title=f"Suspend {visit.tenant.name}?", text=text)


def resume(visit: Visit) -> HttpResponseBase:
    """Asks, then resumes."""
    text = f"Within five seconds {visit.tenant.name} is served again, with everything it had."
    title = f"Resume {visit.tenant.name}?"
    return _moved(visit, lifecycle.resume, "resumed", title=title, text=text, danger=False)


def _moved(visit: Visit, move: Any, done: str, **asked: Any) -> HttpResponseBase:
    if visit.request.method != "POST":
        button = asked["title"].split()[0]
        return confirm(visit.admin, visit.request, button=button, back=visit.url("change"), **asked)
    try:
        move(visit.tenant.slug)
    except Problem as problem:
        messages.error(visit.request, problem.detail)
        return visit.go("change")
    visit.log(f"{done.capitalize()}.")
    messages.success(visit.request, f"{visit.tenant.name} is {done}.")
    return visit.go("change")


BOTH = ("GET", "HEAD", "POST")
PAGES = (
    Page("suspend", "suspend/", suspend, "change_tenant", BOTH),
    Page("resume", "resume/", resume, "change_tenant", BOTH),
    *births.PAGES,
    *configuration.PAGES,
    *domains.PAGES,
    *members.PAGES,
    *sign_in.PAGES,
)


class TenantForm(forms.ModelForm):  # type: ignore[type-arg]
    """What can be changed of a tenant."""

    class Meta:
        help_texts: ClassVar[dict[str, str]] = {
            "tier": "A tenant that was put on a plan has the plan’s tier."
        }

    def clean_name(self) -> str:
        try:
            return one_line("name", self.cleaned_data["name"])
        except Problem as problem:
            raise forms.ValidationError(problem.detail) from problem


@admin.register(Tenant)
class TenantAdmin(ModelAdmin):  # type: ignore[misc]
    """Name and tier can be changed here; all else has pages of its own, and erasing is a command."""

    form = TenantForm
    list_display = ("shown_name", "tier", "shown_status", "addresses", "created_at")
    list_filter = ("status", "tier")
    search_fields = ("name", "slug", "domains__domain")
    search_help_text = "Name, slug or host name"
    ordering = ("name",)
    list_per_page = 50
    actions = None
    fieldsets = (
        (None, {"fields": ("name", "tier", "encrypts", "retention_days", "legal_hold")}),
        (
            "How it is kept",
            {
                "fields": (
                    ("slug", "created_at"),
                    ("schema_name", "database"),
                    ("shown_migrations", "updated_at"),
                )
            },
        ),
    )
    readonly_fields = ("slug", "schema_name", "database", "shown_migrations", "created_at", "updated_at")
    change_form_outer_before_template = "admin/tenants/_head.html"

    def get_urls(self) -> list[URLPattern]:
        return urls(self, PAGES) + list(super().get_urls())

    def get_queryset(self, request: HttpRequest) -> QuerySet[Tenant]:
        tenants: QuerySet[Tenant] = super().get_queryset(request).prefetch_related("domains")
        return tenants

    def has_delete_permission(self, request: HttpRequest, obj: Tenant | None = None) -> bool:
        return False

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return births.request(self, request)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        tenant = self.get_object(request, object_id)
        shown = {"show_save_and_add_another": False, "tab": "change"}
        if tenant:
            shown |= tenant_context(request, tenant)
        answer: HttpResponse = super().change_view(
            request, object_id, form_url, {**(extra_context or {}), **shown}
        )
        return answer

    def save_model(self, request: HttpRequest, obj: Tenant, form: Any, change: bool) -> None:
        profile.change(
            obj.ref,
            name=obj.name,
            tier=Tier(obj.tier),
            **{field: getattr(obj, field) for field in profile.KEPT},
        )

    @column(description="Tenant", header=True, ordering="name")
    def shown_name(self, tenant: Tenant) -> list[str]:
        return [tenant.name, tenant.slug]

    @column(description="Status", label=STATUS_COLOURS, ordering="status")
    def shown_status(self, tenant: Tenant) -> tuple[str, str]:
        return tenant.status, tenant.get_status_display()

    @column(description="Answers at")
    def addresses(self, tenant: Tenant) -> str:
        own = [domain.domain for domain in tenant.domains.all()]
        return ", ".join([f"{tenant.slug}.{settings.PLATFORM_DOMAIN}", *own])

    @column(description="Migrations")
    def shown_migrations(self, tenant: Tenant) -> str:
        return tenant.migrated_to[:12] or "none yet"
