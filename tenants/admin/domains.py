"""The host names of a tenant's own."""

from __future__ import annotations

from uuid import UUID

from django import forms
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.http.response import HttpResponseBase
from unfold.widgets import UnfoldAdminTextInputWidget

from chatplatform.api.forms import refuse
from chatplatform.api.problem import Problem
from tenants.admin.pages import Page, Visit, confirm
from tenants.models import Domain
from tenants.services import domains


class NewDomainForm(forms.Form):
    """A host name to be; the service says whether it may be one."""

    domain = forms.CharField(
        max_length=300,
        label="Host name",
        widget=UnfoldAdminTextInputWidget(
            attrs={"placeholder": "chat.example.com", "autocapitalize": "none"}
        ),
        help_text="Point its DNS at this platform first; it is served within five seconds.",
    )


def show(visit: Visit) -> HttpResponseBase:
    """The list, and the form for one more."""
    form = NewDomainForm(visit.request.POST if visit.request.method == "POST" else None)
    if visit.request.method == "POST" and not visit.may("add_domain"):
        raise PermissionDenied
    if form.is_valid():
        try:
            domain = domains.add(visit.tenant.ref, form.cleaned_data["domain"].strip())
        except Problem as problem:
            refuse(form, problem)
        else:
            visit.log(f"Added the domain {domain.domain}.")
            messages.success(visit.request, f"{visit.tenant.name} answers at {domain.domain} now.")
            return visit.go("domains")
    return visit.render(
        "admin/tenants/domains.html",
        "domains",
        form=form,
        domains=visit.tenant.domains.order_by("domain"),
        built_in=f"{visit.tenant.slug}.{settings.PLATFORM_DOMAIN}",
        may_add=visit.may("add_domain"),
        may_remove=visit.may("delete_domain"),
        title=f"Domains of {visit.tenant.name}",
    )


def remove(visit: Visit, domain_id: UUID) -> HttpResponseBase:
    """Asks, then removes."""
    domain = visit.tenant.domains.filter(pk=domain_id).first()
    if domain is None:
        raise Http404
    if visit.request.method != "POST":
        text = f"Visitors at {domain.domain} no longer reach {visit.tenant.name}. It can be added again."
        title = f"Remove {domain.domain}?"
        return confirm(
            visit.admin, visit.request, title=title, text=text, button="Remove", back=visit.url("domains")
        )
    try:
        domains.remove(visit.tenant.ref, domain_id)
    except Domain.DoesNotExist as error:
        raise Http404 from error
    visit.log(f"Removed the domain {domain.domain}.")
    messages.success(visit.request, f"{domain.domain} is removed.")
    return visit.go("domains")


PAGES = (
    Page("domains", "domains/", show, methods=("GET", "HEAD", "POST")),
    Page(
        "domain_remove",
        "domains/<uuid:domain_id>/remove/",
        remove,
        "delete_domain",
        ("GET", "HEAD", "POST"),
    ),
)
