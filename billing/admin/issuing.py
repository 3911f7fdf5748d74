"""Issuing one tenant's invoice in the console: shown first, issued then. For all tenants there is a command."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import reverse

from billing.admin.forms import IssueForm
from billing.services import invoices
from billing.services.drafts import Draft, draft
from chatplatform.api.forms import refuse
from chatplatform.api.problem import Problem
from tenants.admin.pages import render
from tenants.models import User


def issue(model_admin: Any, request: HttpRequest) -> HttpResponseBase:
    """Asks for tenant and month, shows what the invoice would be, and issues it when that is sent."""
    user = request.user
    if not isinstance(user, User) or not user.has_perm("billing.add_issueddocument"):
        raise PermissionDenied
    posted = request.method == "POST"
    form = IssueForm(request.POST if posted else request.GET or None)
    shown: Draft | None = None
    asked = form.is_bound and form.is_valid()
    if asked:
        tenant, month = form.asked
        try:
            if posted:
                return _issued(model_admin, request, invoices.issue(tenant, month, author=user.username))
            shown = draft(tenant, month)
            invoices.check_over(month)
        except Problem as problem:
            refuse(form, problem)
    context: dict[str, Any] = {
        "title": "Issue an invoice",
        "form": form,
        "draft": shown,
        "nothing": asked and not shown and not form.errors,
        "back": reverse("admin:billing_issueddocument_changelist"),
    }
    return render(model_admin, request, "admin/billing/issue.html", **context)


def _issued(model_admin: Any, request: HttpRequest, came: invoices.Issued) -> HttpResponseBase:
    if came.document is None:
        messages.info(request, "There was nothing to bill.")
        return HttpResponseRedirect(reverse("admin:billing_issueddocument_issue"))
    if came.is_new:
        model_admin.log_addition(request, came.document, "Issued.")
        messages.success(request, f"{came.document} is issued.")
    else:
        messages.info(request, f"{came.document} was issued before and stays as it is.")
    return HttpResponseRedirect(reverse("admin:billing_issueddocument_change", args=[came.document.pk]))
