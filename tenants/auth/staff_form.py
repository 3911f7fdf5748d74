"""The staff's sign-in, with as many tries as members have.

Not in `tenants.admin`: the admin's site asks for it while it is being made, when nothing can be registered with it yet.
"""

from __future__ import annotations

from typing import Any

from django import forms
from unfold.forms import AuthenticationForm

from chatplatform.api.problem import Problem
from tenants.auth.passwords import Tries


class SignInForm(AuthenticationForm):  # type: ignore[misc]
    """Django's, which looks at no password above the limit."""

    def clean(self) -> dict[str, Any]:
        username = self.cleaned_data.get("username")
        if not username or not self.cleaned_data.get("password"):
            return dict(super().clean())
        tries = Tries(None, username)
        try:
            tries.take()
        except Problem as problem:
            raise forms.ValidationError(problem.detail, code="rate_limited") from problem
        cleaned: dict[str, Any] = super().clean()
        tries.succeeded()
        return cleaned
