"""Forms of the pages about invoices."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

from django import forms
from django.utils import timezone
from unfold.widgets import (
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from billing import months
from billing.services.credits import Left
from billing.services.invoices import BILLED
from chatplatform.postgres.models import uuid7
from tenants.models import Tenant


class MonthField(forms.CharField):
    """A month such as 2026-11, as the date of its first day."""

    def __init__(self, **options: Any) -> None:
        super().__init__(widget=UnfoldAdminTextInputWidget(attrs={"type": "month"}), **options)

    def to_python(self, value: Any) -> Any:
        try:
            return months.parse(super().to_python(value) or "")
        except ValueError as error:
            raise forms.ValidationError("A month such as 2026-11.") from error


class IssueForm(forms.Form):
    """Whose invoice, and of which month."""

    tenant = forms.ModelChoiceField(Tenant.objects.none(), widget=UnfoldAdminSelectWidget())
    month = MonthField()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        tenant: Any = self.fields["tenant"]
        tenant.queryset = Tenant.objects.filter(status__in=BILLED).order_by("name")
        self.initial.setdefault("month", f"{months.before(timezone.now().date()):%Y-%m}")

    @property
    def asked(self) -> tuple[Tenant, date]:
        return self.cleaned_data["tenant"], self.cleaned_data["month"]


class CreditForm(forms.Form):
    """What to take back of each line, before tax, and why. Nothing in a line is nothing of it."""

    document_id = forms.UUIDField(widget=forms.HiddenInput())  # sent twice, it is one credit note
    reason = forms.CharField(max_length=300, widget=UnfoldAdminTextInputWidget())
    everything = forms.BooleanField(
        required=False, label="Everything that is left", widget=UnfoldBooleanSwitchWidget()
    )

    def __init__(self, left: Left, data: Any = None) -> None:
        super().__init__(data, initial={"document_id": uuid7()})
        self.left = left
        for line, most in left.lines.items():
            self.fields[_name(line.id)] = forms.DecimalField(
                label=f"{line.description}, {line.starts.day}–{line.ends.day} {line.ends:%B} (at most {most:,})",
                min_value=Decimal("0.01"),
                max_value=most,
                decimal_places=2,
                required=False,
                widget=UnfoldAdminDecimalFieldWidget(),
            )

    @property
    def amounts(self) -> dict[UUID, Decimal] | None:
        """By line, those that have one; None is everything."""
        if self.cleaned_data["everything"]:
            return None
        chosen = {line.id: self.cleaned_data[_name(line.id)] for line in self.left.lines}
        return {line: amount for line, amount in chosen.items() if amount}


class PaymentForm(forms.Form):
    """What was paid, and how."""

    amount = forms.DecimalField(
        min_value=Decimal("0.01"), max_digits=14, decimal_places=2, widget=UnfoldAdminDecimalFieldWidget()
    )
    detail = forms.CharField(
        max_length=500,
        label="How",
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "Bank transfer of …"}),
    )


def _name(line: UUID) -> str:
    return f"line_{line.hex}"
