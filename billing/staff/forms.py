"""What the ledger can be narrowed by."""

from __future__ import annotations

from datetime import date
from typing import Any

from django import forms
from django.http import QueryDict
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

    def __init__(self, data: QueryDict, today: date) -> None:
        filled = data.copy()
        if not filled.get("last"):
            filled["last"] = today.isoformat()
        if not filled.get("first"):
            filled["first"] = f"{filled['last'][:8]}01"
        super().__init__(filled)
        self.today = today

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        first, last = values.get("first"), values.get("last")
        if first and last and first > last:
            self.add_error("last", "It is before the first day.")
        return values

    def wanted(self) -> LedgerFilter:
        """What the form asks for; a field that is wrong narrows nothing, and says so on the page."""
        self.is_valid()
        values: dict[str, Any] = self.cleaned_data
        last = values.get("last") or self.today
        return LedgerFilter(
            first=values.get("first") or last.replace(day=1),
            last=last,
            provider=values.get("provider") or "",
            model=values.get("model") or "",
            outcome=values.get("outcome") or "",
            estimated={"yes": True, "no": False}.get(values.get("estimated") or ""),
            reply=values.get("reply"),
            before=values.get("before"),
            after=values.get("after"),
        )
