"""The forms that set prices."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from django import forms
from django.core.validators import MinValueValidator
from unfold import widgets

from billing.admin.price_history import KINDS, dollars, length
from billing.models import ModelPrice
from billing.services.price_list import Rates
from chatplatform.llm.catalog import PROVIDERS


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
