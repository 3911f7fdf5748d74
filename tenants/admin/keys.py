"""API keys: made, shown once, replaced, revoked. Never edited, never deleted, and their hash never shown."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.urls import reverse
from unfold import widgets
from unfold.contrib.filters.admin import RelatedDropdownFilter
from unfold.enums import ActionVariant

from chatplatform.api.forms import refuse
from chatplatform.api.problem import Problem
from tenants.admin.pages import ReadOnlyAdmin, button, column, confirm, render
from tenants.models import ApiKey, Tenant
from tenants.services import api_keys
from tenants.vocabulary import Scope

LIFETIMES = (("30d", "30 days"), ("90d", "90 days"), ("365d", "A year"), ("", "No end"))
OVERLAP = timedelta(days=1)
STATES = {"usable": "success", "expired": "warning", "revoked": "danger"}


class NewKeyForm(forms.Form):
    """What a key is for, whose it is, what it may do and for how long."""

    name = forms.CharField(
        max_length=100,
        widget=widgets.UnfoldAdminTextInputWidget(),
        help_text="What it is for, so that somebody dares to revoke it one day.",
    )
    tenant = forms.ModelChoiceField(
        Tenant.objects.all(),
        required=False,
        empty_label="No tenant: a platform key",
        widget=widgets.UnfoldAdminSelectWidget(),
        help_text="A key acts for one tenant. A platform key acts for all of them; only superusers make one.",
    )
    scopes = forms.MultipleChoiceField(
        choices=Scope.choices,
        initial=[Scope.CHAT],
        widget=widgets.UnfoldAdminCheckboxSelectMultipleWidget(),
    )
    expires_in = forms.ChoiceField(
        choices=LIFETIMES,
        required=False,
        initial="90d",
        label="Good for",
        widget=widgets.UnfoldAdminSelectWidget(),
    )

    def __init__(self, *args: Any, superuser: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.superuser = superuser
        if not superuser:
            self.fields["tenant"].empty_label = "Choose a tenant"  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if "tenant" in values and values["tenant"] is None:
            if not self.superuser:
                self.add_error("tenant", "Choose a tenant: platform keys are made by superusers.")
            elif Scope.PLATFORM not in values.get("scopes", ()):
                self.add_error("tenant", "Choose a tenant, or the scope Platform for a platform key.")
        return values


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnlyAdmin):
    list_display = (
        "shown_name",
        "tenant",
        "shown_scopes",
        "state",
        "last_used_at",
        "created_at",
        "expires_at",
    )
    list_filter = (("tenant", RelatedDropdownFilter),)
    list_filter_submit = True
    list_select_related = ("tenant",)
    search_fields = ("name", "public_id", "tenant__name", "tenant__slug")
    search_help_text = "Name, id or tenant"
    fields = (
        ("name", "shown_id"),
        ("tenant", "shown_scopes"),
        ("state", "created_at"),
        ("expires_at", "revoked_at"),
        ("last_used_at",),
    )
    readonly_fields = (
        "name",
        "shown_id",
        "tenant",
        "shown_scopes",
        "state",
        "created_at",
        "expires_at",
        "revoked_at",
        "last_used_at",
    )
    actions_detail = ("rotate", "revoke")
    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("tenants.add_apikey"))

    def has_revoke_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        may = bool(request.user.has_perm("tenants.change_apikey"))
        return may and ApiKey.objects.filter(pk=object_id, revoked_at=None).exists()

    def has_rotate_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        key = ApiKey.objects.filter(pk=object_id).first()
        if key is None or not key.usable or not self.has_add_permission(request):
            return False
        return key.tenant_id is not None or bool(request.user.is_superuser)

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        superuser = bool(request.user.is_superuser)
        form = NewKeyForm(request.POST or None, superuser=superuser, initial=_initial(request))
        if form.is_valid():
            made = self._made(form)
            if made is not None:
                self.log_addition(request, made[0], "Made.")
                return self._shown_once(request, *made)
        back = reverse("admin:tenants_apikey_changelist")
        shown = {"form": form, "button": "Make key", "back": back, "title": "New API key"}
        return render(self, request, "admin/tenants/form.html", **shown)

    def _shown_once(self, request: HttpRequest, key: ApiKey, shown: str) -> HttpResponse:
        # Rendered here, not after a redirect: so the key is kept nowhere, and a reload cannot show it.
        page = "admin/tenants/key_made.html"
        return render(self, request, page, key=key, api_key=shown, title="New API key")

    def _made(self, form: NewKeyForm) -> tuple[ApiKey, str] | None:
        values = form.cleaned_data
        lifetime = api_keys.duration(values["expires_in"]) if values["expires_in"] else None
        try:
            return api_keys.create(
                values["tenant"], values["scopes"], expires_in=lifetime, name=values["name"]
            )
        except Problem as problem:
            refuse(form, problem)
            return None

    @button(description="Replace", permissions=["rotate"], url_path="rotate")
    def rotate(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Asks, then makes a new key like this one, and lets this one end."""
        key = get_object_or_404(ApiKey, pk=UUID(object_id))
        if request.method != "POST":
            text = "A new key is made that may do the same, and shown once. This one goes on for a day beside it."
            back = reverse("admin:tenants_apikey_change", args=[key.pk])
            asked: dict[str, Any] = {"title": f"Replace {key}?", "button": "Replace", "danger": False}
            return confirm(self, request, **asked, text=text, back=back, original=key)
        old, new, shown = api_keys.rotate(key.public_id, OVERLAP)
        self.log_change(request, old, f"Replaced by {new.public_id}.")
        self.log_addition(request, new, f"Made in place of {old.public_id}.")
        return self._shown_once(request, new, shown)

    @button(description="Revoke", permissions=["revoke"], url_path="revoke", variant=ActionVariant.DANGER)
    def revoke(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Asks, then revokes."""
        key = get_object_or_404(ApiKey, pk=UUID(object_id))
        back = reverse("admin:tenants_apikey_change", args=[key.pk])
        if request.method != "POST":
            text = "Whatever uses this key is refused within five seconds, for good. A revoked key cannot come back."
            title = f"Revoke {key}?"
            return confirm(self, request, title=title, text=text, button="Revoke", back=back, original=key)
        api_keys.revoke(key.public_id)
        self.log_change(request, key, "Revoked.")
        messages.success(request, f"{key} is revoked.")
        return HttpResponseRedirect(back)

    @column(description="Key", header=True, ordering="name")
    def shown_name(self, key: ApiKey) -> list[str]:
        return [str(key), self.shown_id(key)]

    @column(description="Id")
    def shown_id(self, key: ApiKey) -> str:
        return f"cp_{settings.ENVIRONMENT}_{key.public_id}_…"

    @column(description="Scopes")
    def shown_scopes(self, key: ApiKey) -> str:
        return ", ".join(key.scopes)

    @column(description="State", label=STATES)
    def state(self, key: ApiKey) -> str:
        if key.revoked_at is not None:
            return "revoked"
        return "usable" if key.usable else "expired"


def _initial(request: HttpRequest) -> dict[str, Any]:
    """`?tenant=<id>` preselects one."""
    try:
        return {"tenant": UUID(request.GET["tenant"])}
    except (KeyError, ValueError):
        return {}
