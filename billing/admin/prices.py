"""Prices: those in force, each model's history, and prices of our own. No row is ever edited or deleted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.core.validators import MinValueValidator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from unfold import widgets
from unfold.contrib.filters.admin import DropdownFilter

from billing import pricing
from billing.models import ModelPrice
from billing.models.prices import STAFF
from billing.pricing import Prices
from billing.services import prices
from billing.services.price_list import Rates
from chatplatform.api.forms import refuse
from chatplatform.api.problem import Problem
from chatplatform.llm.catalog import PROVIDERS
from tenants.admin.pages import ReadOnlyAdmin, column, render

LIST = "admin:billing_modelprice_changelist"
KINDS = {
    "input_price": "Input",
    "cached_input_price": "Cached input",
    "cache_write_price": "Cache write",
    "output_price": "Output",
}


def dollars(amount: Decimal) -> str:
    """An amount with as many decimals as it has, two at least."""
    whole, _, decimals = f"{amount:,.9f}".partition(".")
    return f"${whole}.{decimals.rstrip('0'):0<2}"


# --- One model's prices --------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Held:
    """What a model costs from a moment on. `state` is "in force", "to come" or "past"."""

    rows: list[ModelPrice]
    state: str

    @property
    def first(self) -> ModelPrice:
        return self.rows[0]

    @property
    def by_staff(self) -> bool:
        return self.first.source == STAFF

    @property
    def steps(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """The lengths of prompts, and the prices of each under their names."""
        return [
            (length(self.rows, row), [(label, dollars(getattr(row, kind))) for kind, label in KINDS.items()])
            for row in self.rows
        ]


def length(rows: list[ModelPrice], row: ModelPrice) -> str:
    """For which prompts a row holds."""
    if row.over_input_tokens:
        return f"Prompts over {row.over_input_tokens:,} tokens"
    following = [other.over_input_tokens for other in rows if other.over_input_tokens]
    return f"Prompts up to {min(following):,} tokens" if following else "All prompts"


def history(provider: str, model: str) -> list[Held]:
    """All prices of a model, the newest first."""
    rows = list(
        ModelPrice.objects.filter(provider=provider, model=model).order_by(
            "-valid_from", "-created_at", "over_input_tokens"
        )
    )
    versions = [
        list(version) for _, version in groupby(rows, key=lambda row: (row.valid_from, row.created_at))
    ]
    return [Held(version, _state(version[0], rows)) for version in versions]


def _state(row: ModelPrice, rows: list[ModelPrice]) -> str:
    now = timezone.now()
    if row.id in _holding(Prices(rows, max(now, row.valid_from))):
        return "in force" if row.valid_from <= now else "to come"
    return "past"


def _holding(found: Prices) -> set[UUID]:
    return {price.id for version in found.versions for _, price in version.steps}


# --- Forms ---------------------------------------------------------------------------------------------------------
class PriceForm(forms.Form):
    """A price of our own: one line of prices for each length of prompt that `rows` tell apart, and why."""

    starts = forms.DateTimeField(
        required=False,
        label="From (UTC)",
        widget=widgets.UnfoldAdminTextInputWidget(attrs={"type": "datetime-local"}),
        help_text="Empty: at once. What was charged before stays as it is.",
    )
    reason = forms.CharField(
        max_length=300,
        widget=widgets.UnfoldAdminTextInputWidget(),
        help_text="Such as the contract that says so. Kept with the price.",
    )

    def __init__(self, *args: Any, rows: list[ModelPrice], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rows = rows
        for row in rows:
            for kind, label in KINDS.items():
                self.fields[f"{kind}_{row.over_input_tokens}"] = _amount(label, getattr(row, kind))

    def steps(self) -> Iterator[tuple[str, list[forms.BoundField]]]:
        """The fields of each length of prompt."""
        for row in self.rows:
            yield length(self.rows, row), [self[f"{kind}_{row.over_input_tokens}"] for kind in KINDS]

    def rates(self) -> list[Rates]:
        """What was entered; call after `is_valid()`."""
        return [
            Rates(
                row.over_input_tokens,
                *(self.cleaned_data[f"{kind}_{row.over_input_tokens}"] for kind in KINDS),
            )
            for row in self.rows
        ]


class NewPriceForm(PriceForm):
    """A price for a model that has none."""

    provider = forms.ChoiceField(
        choices=[(name, name) for name in PROVIDERS], widget=widgets.UnfoldAdminSelectWidget()
    )
    model = forms.RegexField(
        r"^[A-Za-z0-9._:/@+=,*#-]+$",
        max_length=200,
        widget=widgets.UnfoldAdminTextInputWidget(attrs={"autocapitalize": "none"}),
        help_text="As the provider calls it; * stands for any text, # for a digit.",
    )
    field_order = ("provider", "model")

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        named = {"provider": values.get("provider"), "model": (values.get("model") or "").lower()}
        if ModelPrice.objects.filter(**named).exists():
            self.add_error("model", "It has a price already; override that one.")
        return {**values, **named}


def _amount(label: str, now: Decimal | None) -> forms.DecimalField:
    return forms.DecimalField(
        max_digits=18,
        decimal_places=9,
        validators=[MinValueValidator(Decimal(0))],
        label=label,
        initial=None if now is None else dollars(now)[1:].replace(",", ""),
        widget=widgets.UnfoldAdminDecimalFieldWidget(attrs={"step": "any", "min": "0"}),
        help_text="" if now is None else f"Now {dollars(now)}",
    )


class BackForm(forms.Form):
    """Why the list's price shall hold again."""

    reason = forms.CharField(max_length=300, widget=widgets.UnfoldAdminTextInputWidget())


# --- The pages -----------------------------------------------------------------------------------------------------
class TimeFilter(DropdownFilter):  # type: ignore[misc]
    """What is in force, or else everything."""

    title = "time"
    parameter_name = "time"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("to-come", "To come"), ("all", "All, history too")]

    def choices(self, changelist: Any) -> Iterable[Any]:
        found = list(super().choices(changelist))
        form = found[0]["form"]
        form.fields[self.parameter_name].choices[0] = ("", "In force")
        return found

    def queryset(self, request: HttpRequest, queryset: QuerySet[ModelPrice]) -> QuerySet[ModelPrice]:
        if self.value() == "all":
            return queryset
        if self.value() == "to-come":
            return queryset.filter(valid_from__gt=timezone.now())
        return queryset.filter(id__in=_holding(pricing.load()))


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
        price = get_object_or_404(ModelPrice, pk=object_id)
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
            names=_newest(held).names or [price.model],
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
        newest = _newest(history(price.provider, price.model))
        rows = sorted(
            ModelPrice.objects.filter(
                provider=price.provider,
                model=price.model,
                valid_from=newest.valid_from,
                created_at=newest.created_at,
            ),
            key=lambda row: row.over_input_tokens,
        )
        form = PriceForm(request.POST or None, rows=rows)
        back = reverse("admin:billing_modelprice_change", args=[price.pk])
        if form.is_valid() and self._set(request, form, price.provider, price.model, newest.names):
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
    def shown_start(self, price: ModelPrice) -> str:
        return "the beginning" if price.valid_from.year == 1970 else f"{price.valid_from:%Y-%m-%d %H:%M}"


def _newest(held: list[Held]) -> ModelPrice:
    """What holds now, or what comes next."""
    return next((version.first for version in held if version.state == "in force"), held[0].first)
