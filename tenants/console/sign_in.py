"""Getting in: sign-in, sign-out, and the links that mails lead to."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import reverse

from chatplatform.api.problem import Problem
from tenants.auth import members as cookies
from tenants.auth.members import Entrance
from tenants.console.frame import NOTICES, acting_as, attempt, go, open_page, posted, show, wanted
from tenants.selectors import TenantState
from tenants.services import member_sessions, members, sign_in_providers
from tenants.services.member_links import Link

EMAIL = {"autocomplete": "username", "inputmode": "email", "autocapitalize": "none", "spellcheck": "false"}


class SignInForm(forms.Form):
    email = forms.CharField(label="E-mail address", max_length=254, widget=forms.EmailInput(EMAIL))
    password = forms.CharField(
        max_length=1000, strip=False, widget=forms.PasswordInput({"autocomplete": "current-password"})
    )


class ForgotForm(forms.Form):
    email = forms.CharField(label="E-mail address", max_length=254, widget=forms.EmailInput(EMAIL))


class PasswordForm(forms.Form):
    """A new password, typed twice."""

    password = forms.CharField(
        label="New password",
        max_length=1000,
        strip=False,
        widget=forms.PasswordInput({"autocomplete": "new-password"}),
        help_text="At least eight characters, and not one of the common ones.",
    )
    again = forms.CharField(
        label="Once more",
        max_length=1000,
        strip=False,
        widget=forms.PasswordInput({"autocomplete": "new-password"}),
    )

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if "again" in values and values.get("password") != values["again"]:
            self.add_error("again", "The two are not the same.")
        return values


@open_page
def sign_in(request: HttpRequest, tenant: TenantState) -> HttpResponseBase:
    """The form; with the right password, on to the page that was wanted."""
    form = SignInForm(posted(request))
    if form.is_valid():
        values, agent = form.cleaned_data, request.headers.get("User-Agent", "")
        token = attempt(
            form, lambda: members.sign_in(tenant.ref, values["email"], values["password"], agent=agent)
        )
        if token:
            # Or the browser would leave a session behind that it has no more.
            end_entrance(cookies.entrance_of(request, tenant))
            response = HttpResponseRedirect(wanted(request))
            cookies.write(response, token)
            return response
    shown = {
        "form": form,
        "providers": sign_in_providers.of_tenant(tenant.ref),
        "query": request.GET.urlencode(),
    }
    return show(request, tenant, "sign_in", status=403 if form.errors else 200, **shown)


@open_page
def sign_out(request: HttpRequest, tenant: TenantState) -> HttpResponseBase:
    """Ends this browser's session."""
    entrance = cookies.entrance_of(request, tenant)
    response = go("console-sign-in", done="signed-out")
    if request.method == "POST":
        end_entrance(entrance)
        cookies.clear(response)
    return response


@open_page
def forgot(request: HttpRequest, tenant: TenantState) -> HttpResponseBase:
    """Asks for the address; the answer does not tell whether it is a member's."""
    form = ForgotForm(posted(request))
    if form.is_valid():
        email = form.cleaned_data["email"]
        attempt(form, lambda: members.ask_for_reset(tenant.ref, email))
        if not form.errors:
            return go("console-sign-in", done="asked")
    return show(request, tenant, "forgot", form=form, status=403 if form.errors else 200)


@open_page
def join(request: HttpRequest, tenant: TenantState) -> HttpResponseBase:
    """Where an invitation leads."""
    return _choose_password(request, tenant, Link.JOIN, f"Join {tenant.name}", "joined")


@open_page
def reset(request: HttpRequest, tenant: TenantState) -> HttpResponseBase:
    """Where the link for another password leads."""
    return _choose_password(request, tenant, Link.RESET, "Choose another password", "reset")


def end_entrance(entrance: Entrance | None) -> None:
    """End the session of a browser that signs out, or in again."""
    if entrance is not None:
        with acting_as(cookies.as_member(entrance.tenant, entrance.session)):
            member_sessions.end(entrance.session)


def _choose_password(
    request: HttpRequest, tenant: TenantState, kind: Link, title: str, done: str
) -> HttpResponseBase:
    assert done in NOTICES
    token = request.GET.get("token", "")
    try:
        membership = members.of_link(kind, tenant.ref, token)
    except Problem as problem:
        shown = {"form": SignInForm(), "action": reverse("console-sign-in"), "notice": problem.detail}
        return show(request, tenant, "sign_in", status=problem.code.status, **shown)
    form = PasswordForm(posted(request))
    if form.is_valid():
        password = form.cleaned_data["password"]
        if attempt(form, lambda: members.follow_link(kind, tenant.ref, token, password)):
            return go("console-sign-in", done=done)
    return show(request, tenant, "choose_password", form=form, title=title, email=membership.email)
