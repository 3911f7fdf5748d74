"""What the ledger can be narrowed by."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from django import forms
from unfold.widgets import UnfoldAdminDateWidget, UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from billing.selectors import LedgerFilter
from billing.vocabulary import CallOutcome, EntryKind

OUTCOMES = [("", "Any outcome"), *CallOutcome.choices, (EntryKind.CACHE_HIT.value, EntryKind.CACHE_HIT.label)]
ESTIMATED = [("", "Reported or estimated"), ("no", "Reported by the provider"), ("yes", "Estimated by us")]


class LedgerForm(forms.Form):
    """All optional; without days it is this month."""

    first = forms.DateField(required=False, label="From", widget=UnfoldAdminDateWidget({"type": "date"}))
    last = forms.DateField(required=False, label="To", widget=UnfoldAdminDateWidget({"type": "date"}))
    provider = forms.CharField(
        required=False,
        max_length=40,
        widget=UnfoldAdminTextInputWidget({"placeholder": "Any", "list": "providers"}),
    )
    model = forms.CharField(
        required=False,
        max_length=200,
        widget=UnfoldAdminTextInputWidget({"placeholder": "Any", "list": "models"}),
    )
    outcome = forms.ChoiceField(required=False, choices=OUTCOMES, widget=UnfoldAdminSelectWidget())
    estimated = forms.ChoiceField(
        required=False, choices=ESTIMATED, label="Usage", widget=UnfoldAdminSelectWidget()
    )
    reply = forms.UUIDField(
        required=False, label="Reply", widget=UnfoldAdminTextInputWidget({"placeholder": "Its id"})
    )
    before = forms.UUIDField(required=False, widget=forms.HiddenInput())
    after = forms.UUIDField(required=False, widget=forms.HiddenInput())

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        first, last = values.get("first"), values.get("last")
        if first and last and first > last:
            self.add_error("last", "It is before the first day.")
        return values

    def wanted(self, today: date) -> LedgerFilter:
        """What the form asks for; a field that is wrong narrows nothing, and says so on the page."""
        self.is_valid()
        values: dict[str, Any] = self.cleaned_data
        last = values.get("last") or today
        return LedgerFilter(
            first=values.get("first") or (last if values.get("last") else today).replace(day=1),
            last=last if last < date.max else last - timedelta(days=1),
            provider=values.get("provider") or "",
            model=values.get("model") or "",
            outcome=values.get("outcome") or "",
            estimated={"yes": True, "no": False}.get(values.get("estimated") or ""),
            reply=values.get("reply"),
            before=values.get("before"),
            after=values.get("after"),
        )
