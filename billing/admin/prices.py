"""Prices: those in force, each model's history, and prices of our own. No row is ever edited or deleted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from unfold.contrib.filters.admin import DropdownFilter

from billing import pricing
from billing.admin.price_forms import BackForm, NewPriceForm, PriceForm
from billing.admin.price_history import KINDS, dollars, history, holding, newest
from billing.models import ModelPrice
from billing.models.prices import STAFF
from billing.services import prices
from chatplatform.api.forms import refuse
from chatplatform.api.problem import Problem
from tenants.admin.pages import ReadOnlyAdmin, column, render

LIST = "admin:billing_modelprice_changelist"


class TimeFilter(DropdownFilter):  # type: ignore[misc]
    """What is in force, or else everything."""

    title = "time"
    all_option = ("", "In force")
    parameter_name = "time"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("to-come", "To come"), ("all", "All, history too")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ModelPrice]) -> QuerySet[ModelPrice]:
        if self.value() == "all":
            return queryset
        if self.value() == "to-come":
            return queryset.filter(valid_from__gt=timezone.now())
        return queryset.filter(id__in=holding(pricing.load()))


class WhoseFilter(DropdownFilter):  # type: ignore[misc]
    title = "origin"
    parameter_name = "origin"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("staff", "Staff"), ("list", "The list")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ModelPrice]) -> QuerySet[ModelPrice]:
        if self.value() == "staff":
            return queryset.filter(source=STAFF)
        return queryset.exclude(source=STAFF) if self.value() == "list" else queryset


class ProviderFilter(DropdownFilter):  # type: ignore[misc]
    title = "provider"
    parameter_name = "provider"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        names = ModelPrice.objects.order_by("provider").values_list("provider", flat=True).distinct()
        return [(name, name) for name in names]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ModelPrice]) -> QuerySet[ModelPrice]:
        return queryset.filter(provider=self.value()) if self.value() else queryset


@admin.register(ModelPrice)
class ModelPriceAdmin(ReadOnlyAdmin):
    list_display = (
        "shown_model",
        "shown_length",
        "shown_input",
        "shown_cached",
        "shown_written",
        "shown_output",
        "shown_source",
        "shown_start",
    )
    list_filter = (ProviderFilter, TimeFilter, WhoseFilter)
    list_filter_submit = True
    search_fields = ("model", "names")
    search_help_text = "A model’s name, or part of it"
    ordering = ("provider", "model", "-valid_from", "over_input_tokens")
    list_per_page = 100

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("<uuid:price_id>/override/", view(self.override), name="billing_modelprice_override"),
            path("<uuid:price_id>/back/", view(self.back), name="billing_modelprice_back"),
            *super().get_urls(),
        ]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("billing.add_modelprice"))

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The model's page: what it costs now, and what it did."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        price = self.get_object(request, object_id)
        if price is None:
            raise Http404
        held = history(price.provider, price.model)
        rows = [row for version in held for row in version.rows]
        listed = any(row.source != STAFF for row in rows)
        return render(
            self,
            request,
            "admin/billing/price.html",
            original=price,
            price=price,
            title=str(price.model),
            kinds=KINDS.values(),
            held=held,
            names=newest(held).first.names or [price.model],
            may_set=self.has_add_permission(request),
            may_go_back=listed and bool(pricing.by_staff(rows)) and self.has_add_permission(request),
        )

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = NewPriceForm(request.POST or None, rows=[ModelPrice(over_input_tokens=0)])
        if form.is_valid():
            values = form.cleaned_data
            if self._set(request, form, values["provider"], values["model"]):
                return HttpResponseRedirect(reverse(LIST))
        shown = {"form": form, "button": "Set price", "back": reverse(LIST), "title": "New price"}
        return render(self, request, "admin/billing/price_form.html", **shown)

    def override(self, request: HttpRequest, price_id: UUID) -> HttpResponseBase:
        """A price of our own, beside the one that holds now."""
        price = self._settable(request, price_id)
        held = newest(history(price.provider, price.model))
        form = PriceForm(request.POST or None, rows=held.rows)
        back = reverse("admin:billing_modelprice_change", args=[price.pk])
        if form.is_valid() and self._set(request, form, price.provider, price.model, held.first.names):
            return HttpResponseRedirect(back)
        shown = {"form": form, "button": "Set price", "back": back, "title": f"Override {price.model}"}
        return render(self, request, "admin/billing/price_form.html", original=price, price=price, **shown)

    def back(self, request: HttpRequest, price_id: UUID) -> HttpResponseBase:
        """Asks why, then lets the list's price hold again."""
        price = self._settable(request, price_id)
        form = BackForm(request.POST or None)
        back = reverse("admin:billing_modelprice_change", args=[price.pk])
        if form.is_valid():
            try:
                prices.back_to_list(
                    price.provider, price.model, reason=form.cleaned_data["reason"], author=str(request.user)
                )
            except Problem as problem:
                refuse(form, problem)
            else:
                self.log_change(request, price, "Back to the list.")
                messages.success(request, f"The list’s price of {price.model} is in force again.")
                return HttpResponseRedirect(back)
        shown = {
            "form": form,
            "button": "Back to the list",
            "back": back,
            "title": f"{price.model}: back to the list",
        }
        return render(self, request, "admin/tenants/form.html", original=price, **shown)

    def _settable(self, request: HttpRequest, price_id: UUID) -> ModelPrice:
        if not self.has_add_permission(request):
            raise PermissionDenied
        return get_object_or_404(ModelPrice, pk=price_id)

    def _set(
        self, request: HttpRequest, form: PriceForm, provider: str, model: str, names: Iterable[str] = ()
    ) -> bool:
        values = form.cleaned_data
        try:
            prices.override(
                provider,
                model,
                form.rates(),
                reason=values["reason"],
                author=str(request.user),
                names=list(names),
                starts=values["starts"],
            )
        except Problem as problem:
            refuse(form, problem)
            return False
        written = ModelPrice.objects.filter(provider=provider, model=model).order_by("-created_at").first()
        self.log_addition(request, written, f"Set: {values['reason']}")
        messages.success(request, f"The price of {model} is set.")
        return True

    @column(description="Model", header=True, ordering="model")
    def shown_model(self, price: ModelPrice) -> list[str]:
        return [price.model, price.provider]

    @column(description="Prompts", ordering="over_input_tokens")
    def shown_length(self, price: ModelPrice) -> str:
        return f"over {price.over_input_tokens:,}" if price.over_input_tokens else "all"

    @column(description="Input", ordering="input_price")
    def shown_input(self, price: ModelPrice) -> str:
        return dollars(price.input_price)

    @column(description="Cached", ordering="cached_input_price")
    def shown_cached(self, price: ModelPrice) -> str:
        return dollars(price.cached_input_price)

    @column(description="Cache write", ordering="cache_write_price")
    def shown_written(self, price: ModelPrice) -> str:
        return dollars(price.cache_write_price)

    @column(description="Output", ordering="output_price")
    def shown_output(self, price: ModelPrice) -> str:
        return dollars(price.output_price)

    @column(description="Origin", label={"staff": "warning", "list": "info"}, ordering="source")
    def shown_source(self, price: ModelPrice) -> tuple[str, str]:
        return ("staff", "Staff") if price.source == STAFF else ("list", price.source)

    @column(description="From", ordering="valid_from")
    def shown_start(self, price: ModelPrice) -> Any:
        return "the beginning" if price.valid_from.year == 1970 else price.valid_from
