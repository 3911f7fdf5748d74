"""The form that writes the next configuration version."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, ClassVar

from django import forms
from django.contrib.postgres.forms import SimpleArrayField
from unfold import widgets

from tenants.admin.presentation import GROUPS, label
from tenants.models import ConfigurationVersion
from tenants.models.configuration import FIELDS, LIMITS

WIDGETS: tuple[tuple[type[forms.Field], Any], ...] = (
    (forms.BooleanField, widgets.UnfoldBooleanSwitchWidget),
    (forms.EmailField, widgets.UnfoldAdminEmailInputWidget),
    (forms.DecimalField, widgets.UnfoldAdminDecimalFieldWidget),
    (forms.IntegerField, widgets.UnfoldAdminDecimalFieldWidget),
    (forms.CharField, widgets.UnfoldAdminTextInputWidget),
)
HELP = {
    "system_prompt": "{tenant} stands for the tenant’s name.",
    "greeting": "What the chat page says first. Markdown.",
    "primary_model": "A model’s name, provider/name, or auto.",
    "fallback_model": "Asked in this order when the primary model fails. One a line.",
    "degrade_to_local": "When no model can be reached, the built-in one quotes from the documents, and says so.",
    "allowed_models": "One a line. Empty: every model with a price.",
    "temperature": "0 to 2. Empty: the model’s own.",
    "allowed_tools": "One a line.",
    "blocked_topics": "One a line.",
    "widget_origins": "Where its widget may be embedded, such as https://www.example.com. One a line.",
    "escalation_email": "Who is mailed when a visitor asks for a person.",
    "semantic_cache_threshold": "0 to 1: how alike two questions must be to share an answer.",
}


class Lines(forms.CharField):
    """A list of texts, one a line. `nothing` is what no line at all means."""

    def __init__(self, base: SimpleArrayField, *, nothing: list[str] | None) -> None:
        super().__init__(required=False, widget=widgets.UnfoldAdminTextareaWidget(attrs={"rows": 4}))
        self.base, self.nothing = base.base_field, nothing

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def clean(self, value: Any) -> Any:
        lines = [line.strip() for line in str(value or "").splitlines()]
        return [self.base.clean(line) for line in lines if line] or self.nothing

    def has_changed(self, initial: Any, data: Any) -> bool:
        lines = [line.strip() for line in str(data or "").splitlines()]
        return [line for line in lines if line] != list(initial or [])


class ConfigurationForm(forms.ModelForm):  # type: ignore[type-arg]
    """All fields of CONTRACT §5. `base` is the version that the writer saw."""

    base = forms.IntegerField(widget=forms.HiddenInput())

    class Meta:
        model = ConfigurationVersion
        fields: ClassVar[Any] = FIELDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["base"] = self.instance.number
        for name, value in self.initial.items():
            if isinstance(value, Decimal):
                self.initial[name] = f"{value.normalize():f}"
        for name in FIELDS:
            self.fields[name] = _dressed(name, self.fields[name])

    def groups(self) -> Iterator[tuple[str, list[forms.BoundField]]]:
        """The fields under their headings."""
        for title, names in GROUPS.items():
            yield title, [self[name] for name in names]

    def changes(self) -> dict[str, Any]:
        """What the writer changed; call after `is_valid()`."""
        return {name: self.cleaned_data[name] for name in self.changed_data if name in FIELDS}


def _dressed(name: str, field: forms.Field) -> forms.Field:
    if isinstance(field, SimpleArrayField):
        model_field = ConfigurationVersion._meta.get_field(name)
        field = Lines(field, nothing=None if getattr(model_field, "null", False) else [])
    elif name in GROUPS["Prompt"]:
        rows = 12 if name == "system_prompt" else 3
        field.widget = widgets.UnfoldAdminTextareaWidget(attrs={"rows": rows, "dir": "auto"})
    else:
        attrs = field.widget.attrs
        field.widget = next(widget for kind, widget in WIDGETS if isinstance(field, kind))(attrs=attrs)
    field.label = label(name)
    field.help_text = HELP.get(name, "Empty: no limit." if name in LIMITS and not field.required else "")
    return field
