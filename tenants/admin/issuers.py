"""Who signs tokens: tenants' own backends, registered and removed here, and the platform's keys, to be looked at."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
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
from tenants.models import SigningKey, Tenant, TokenIssuer
from tenants.services import token_issuers

STATES = {"next": "info", "current": "success", "previous": "warning", "retired": "danger"}
LIST = "admin:tenants_tokenissuer_changelist"


class NewIssuerForm(forms.Form):
    """A backend of a tenant's, and how its signature is known."""

    tenant = forms.ModelChoiceField(Tenant.objects.all(), widget=widgets.UnfoldAdminSelectWidget())
    name = forms.CharField(max_length=100, widget=widgets.UnfoldAdminTextInputWidget())
    issuer = forms.CharField(
        max_length=300,
        widget=widgets.UnfoldAdminTextInputWidget(attrs={"placeholder": "https://shop.example"}),
        help_text="What its tokens say in “iss”.",
    )
    jwks_url = forms.CharField(
        max_length=500,
        required=False,
        label="Address of its keys (JWKS)",
        widget=widgets.UnfoldAdminTextInputWidget(),
        help_text="On the public internet, with https. Keys can be changed there without anybody here.",
    )
    public_key = forms.CharField(
        max_length=50_000,
        required=False,
        label="Or its public key",
        widget=widgets.UnfoldAdminTextareaWidget(),
        help_text="PEM, a JWK, or a JWKS document: RSA, EC on P-256 or Ed25519.",
    )


@admin.register(TokenIssuer)
class TokenIssuerAdmin(ReadOnlyAdmin):
    list_display = ("name", "tenant", "issuer", "shown_keys", "created_at")
    list_filter = (("tenant", RelatedDropdownFilter),)
    list_filter_submit = True
    list_select_related = ("tenant",)
    search_fields = ("name", "issuer", "tenant__name", "tenant__slug")
    search_help_text = "Name, issuer or tenant"
    fields = (("name", "tenant"), ("issuer", "created_at"), "shown_keys")
    readonly_fields = ("name", "tenant", "issuer", "created_at", "shown_keys")
    actions_detail = ("remove",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("tenants.add_tokenissuer"))

    def has_remove_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return bool(request.user.has_perm("tenants.delete_tokenissuer"))

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = NewIssuerForm(request.POST or None)
        if form.is_valid():
            values = dict(form.cleaned_data)
            try:
                row = token_issuers.register(values.pop("tenant").ref, **values)
            except Problem as problem:
                refuse(form, problem)
            else:
                self.log_addition(request, row, f"Registered for {row.tenant}.")
                messages.success(request, f"Tokens of {row} are taken now.")
                return HttpResponseRedirect(reverse(LIST))
        shown = {"form": form, "button": "Register", "back": reverse(LIST), "title": "New token issuer"}
        return render(self, request, "admin/tenants/form.html", **shown)

    @button(description="Remove", permissions=["remove"], url_path="remove", variant=ActionVariant.DANGER)
    def remove(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Asks, then removes."""
        row = get_object_or_404(TokenIssuer.objects.select_related("tenant"), pk=UUID(object_id))
        if request.method != "POST":
            text = (
                f"Within five seconds no token of {row.issuer} is taken for {row.tenant} any more, and whoever came "
                "with one has to sign in again."
            )
            back = reverse("admin:tenants_tokenissuer_change", args=[row.pk])
            asked = {"title": f"Remove {row}?", "text": text, "button": "Remove"}
            return confirm(self, request, **asked, back=back, original=row)
        token_issuers.remove(row.tenant.ref, row.pk)
        self.log_change(request, row, "Removed.")
        messages.success(request, f"{row} is removed.")
        return HttpResponseRedirect(reverse(LIST))

    @column(description="Keys")
    def shown_keys(self, row: TokenIssuer) -> str:
        return row.jwks_url or ", ".join(jwk.get("kid") or f"{jwk['kty']} key" for jwk in row.public_keys)


@admin.register(SigningKey)
class SigningKeyAdmin(ReadOnlyAdmin):
    """`manage.py rotate_signing_keys` moves them on."""

    list_display = ("kid", "shown_state", "published_at", "signs_from", "replaced_at", "retired_at")
    fields = (("kid", "shown_state"), ("published_at", "signs_from"), ("replaced_at", "retired_at"))
    readonly_fields = ("kid", "shown_state", "published_at", "signs_from", "replaced_at", "retired_at")

    def get_queryset(self, request: HttpRequest) -> QuerySet[SigningKey]:
        found: QuerySet[SigningKey] = super().get_queryset(request).defer("private_pem")
        return found

    @column(description="State", label=STATES, ordering="state")
    def shown_state(self, key: SigningKey) -> str:
        return key.state
