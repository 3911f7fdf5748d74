"""Asking for a tenant, and watching it being born."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from chatplatform.api.forms import refuse
from chatplatform.api.problem import Problem
from tenants.admin.pages import Page, Visit, render
from tenants.models.tenant import valid_slug
from tenants.services import births, domains, provisioning
from tenants.vocabulary import TenantStatus, Tier

STEPS = {
    TenantStatus.REQUESTED: ("Requested", "Written down, with its first configuration and key."),
    TenantStatus.SCHEMA: ("Schema", "Its own schema and role in PostgreSQL, with all tables."),
    TenantStatus.SEEDED: ("Seeded", "What every tenant starts with is in place."),
    TenantStatus.ACTIVE: ("Active", "Its pages and its API answer."),
}


class NewTenantForm(forms.Form):
    """What staff says of a tenant to be."""

    name = forms.CharField(
        max_length=200, widget=UnfoldAdminTextInputWidget(), help_text="What visitors read."
    )
    slug = forms.CharField(
        max_length=40,
        required=False,
        validators=[valid_slug],
        widget=UnfoldAdminTextInputWidget(),
        help_text="Part of its address and of its schema's name; never changes. Left empty: made from the name.",
    )
    tier = forms.ChoiceField(choices=Tier.choices, widget=UnfoldAdminSelectWidget())
    domains = forms.CharField(
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text="Host names of its own, one a line. More can follow later.",
    )

    def clean_domains(self) -> list[str]:
        """The host names, each checked. Raises ValidationError."""
        hosts = self.cleaned_data["domains"].split()
        for host in hosts:
            try:
                domains.checked(host)
            except Problem as problem:
                self.add_error("domains", f"{host}: {problem.detail}")
        return list(dict.fromkeys(hosts))


def request(admin: Any, asked: HttpRequest) -> HttpResponse:
    """The form, and after it the birth's page with the first key, which is shown this once."""
    if not admin.has_add_permission(asked):
        raise PermissionDenied
    form = NewTenantForm(asked.POST or None, initial={"tier": Tier.FREE})
    if form.is_valid():
        values = form.cleaned_data
        try:
            tenant, _, key = provisioning.request_tenant(
                values["name"], values["slug"] or None, tier=values["tier"], domains=values["domains"]
            )
        except Problem as problem:
            refuse(form, problem)
        else:
            births.start(tenant)
            admin.log_addition(asked, tenant, "Requested.")
            # Rendered here, not after a redirect: so the key is kept nowhere, and a reload cannot show it.
            return _shown(Visit(admin, asked, tenant), key=key)
    return render(admin, asked, "admin/tenants/new.html", form=form, title="New tenant")


def show(visit: Visit) -> HttpResponseBase:
    """How far the birth has come."""
    return _shown(visit)


def status(visit: Visit) -> HttpResponseBase:
    """The same for the page's script."""
    now = births.progress(visit.tenant)
    return JsonResponse(
        {
            "status": now.status,
            "reached": now.reached,
            "finished": now.finished,
            "failed": now.failed,
            "why": now.why,
            "may_retry": now.may_retry,
        }
    )


def again(visit: Visit) -> HttpResponseBase:
    """Another try."""
    if births.start_again(visit.tenant.pk):
        visit.log("Provisioning started again.")
    else:
        messages.info(visit.request, "There is nothing to try again: it is under way, or done.")
    return visit.go("birth")


def _shown(visit: Visit, key: str = "") -> HttpResponse:
    steps = [{"title": title, "text": text} for title, text in STEPS.values()]
    now = births.progress(visit.tenant)
    title = f"Provisioning {visit.tenant.name}"
    return visit.render(
        "admin/tenants/birth.html", "birth", steps=steps, progress=now, api_key=key, title=title
    )


PAGES = (
    Page("birth", "birth/", show),
    Page("birth_status", "birth/status", status),
    Page("birth_again", "birth/again", again, "add_tenant", ("POST",)),
)
