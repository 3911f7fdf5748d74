"""What a service refused, on the form that asked for it."""

from __future__ import annotations

from typing import Any

from django import forms

from chatplatform.api.problem import Problem


def refuse(form: forms.Form | forms.BaseModelForm[Any], problem: Problem) -> None:
    """Show a service's refusal on the fields it names."""
    for one in problem.more.get("errors") or [{"field": "", "message": problem.detail}]:
        field = one["field"].split(".")[0]
        form.add_error(field if field in form.fields else None, one["message"])
