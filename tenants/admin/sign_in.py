"""How a tenant's members sign in, as staff see it: its providers, and whether a second factor is needed."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from chatplatform.api.forms import refuse
from chatplatform.api.problem import Problem
from tenants import selectors
from tenants.admin.pages import Page, Visit
from tenants.console.sign_in_settings import ProviderForm, addresses
from tenants.models import SignInProvider
from tenants.services import sign_in_providers

LOOKS: tuple[tuple[type[forms.Field], Any], ...] = (
    (forms.BooleanField, UnfoldBooleanSwitchWidget),
    (forms.ChoiceField, UnfoldAdminSelectWidget),
    (forms.CharField, UnfoldAdminTextInputWidget),
)


class StaffProviderForm(ProviderForm):
    """The form that owners have, in the looks of this console."""

    def __init__(self, data: Any = None) -> None:
        super().__init__(data)
        for field in self.fields.values():
            look = next(look for kind, look in LOOKS if isinstance(field, kind))
            if isinstance(field.widget, forms.Textarea):
                look = UnfoldAdminTextareaWidget
            if isinstance(field, forms.ChoiceField):
                field.widget = look(choices=field.choices)
            else:
                kept = {name: value for name, value in field.widget.attrs.items() if name != "class"}
                field.widget = look(attrs=kept)
        # What is typed there is not shown again, nor kept by a browser.
        self.fields["client_secret"].widget.input_type = "password"


class NeedForm(forms.Form):
    needed = forms.BooleanField(
        label="Every member needs one",
        help_text="A passkey, or an app that shows codes. Who has none is asked to add one with the next page.",
        required=False,
        widget=UnfoldBooleanSwitchWidget,
    )


def show(visit: Visit) -> HttpResponseBase:
    """The list, and the form for one more."""
    posted = visit.request.method == "POST"
    if posted and not visit.may("change_membership"):
        raise PermissionDenied
    form = StaffProviderForm(visit.request.POST if posted else None)
    if form.is_valid():
        try:
            made = sign_in_providers.save(visit.tenant.ref, **form.cleaned_data)
        except Problem as problem:
            refuse(form, problem)
        else:
            visit.log(f"Added the sign-in provider {made.issuer}.")
            messages.success(visit.request, f"{made.name} is there. Tell it the addresses below it.")
            return visit.go("sign_in")
    state = selectors.state(visit.tenant.pk)
    providers = [(one, addresses(state, one.pk)) for one in sign_in_providers.of_tenant(visit.tenant.ref)]
    return visit.render(
        "admin/tenants/sign_in.html",
        "sign_in",
        form=form,
        need_form=NeedForm(initial={"needed": visit.tenant.needs_second_factor}),
        providers=providers,
        may_change=visit.may("change_membership"),
        title=f"Sign-in of {visit.tenant.name}",
    )


def need(visit: Visit) -> HttpResponseBase:
    """Whether members need a second factor."""
    needed = "needed" in visit.request.POST
    sign_in_providers.need_second_factor(visit.tenant.ref, needed)
    visit.log(f"Members need {'a' if needed else 'no'} second factor.")
    messages.success(visit.request, "It is changed, as of now.")
    return visit.go("sign_in")


def remove(visit: Visit, provider_id: UUID) -> HttpResponseBase:
    """Trust a provider no more."""
    provider = get_object_or_404(SignInProvider, pk=provider_id, tenant=visit.tenant)
    sign_in_providers.remove(provider)
    visit.log(f"Removed the sign-in provider {provider.issuer}.")
    messages.success(visit.request, f"{provider.name} is removed; whom it signed in is signed out.")
    return visit.go("sign_in")


PAGES = (
    Page("sign_in", "sign-in/", show, "view_membership", ("GET", "HEAD", "POST")),
    Page("need_second_factor", "sign-in/second-factor/", need, "change_membership", ("POST",)),
    Page(
        "remove_provider",
        "sign-in/<uuid:provider_id>/remove/",
        remove,
        "change_membership",
        ("POST",),
    ),
)
