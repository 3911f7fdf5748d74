"""What the list of conversations can be narrowed by."""

from __future__ import annotations

from django import forms
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from conversations.vocabulary import ConversationStatus


class FilterForm(forms.Form):
    """A search and two filters, all optional."""

    q = forms.CharField(
        required=False,
        max_length=200,
        label="Search",
        widget=UnfoldAdminTextInputWidget(
            attrs={"type": "search", "placeholder": "Contact, conversation id, or words said"}
        ),
    )
    status = forms.ChoiceField(
        required=False,
        choices=[("", "Any status"), *ConversationStatus.choices],
        widget=UnfoldAdminSelectWidget(),
    )
    channel = forms.CharField(
        required=False,
        max_length=40,
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "Any channel", "list": "channels"}),
    )
