"""Forgetting the end user of a conversation, by staff who may."""

from __future__ import annotations

from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.urls import reverse

from chatplatform import tenancy
from chatplatform.api.problem import Problem
from conversations.models import Conversation
from conversations.services import erasure
from conversations.staff.listing import contact_names
from conversations.staff.views import ERASE, PERMISSION
from tenants.models import Tenant

TEXT = (
    "All conversations with this end user are deleted, with ratings and with the key that sealed them: nobody can read "
    "them again. The usage ledger keeps what they cost, under an id. There is no way back."
)


def erase_contact(request: HttpRequest, slug: str, conversation_id: UUID) -> HttpResponseBase:
    """Asks, then erases."""
    if not all(request.user.has_perm(one) for one in (PERMISSION, ERASE)):
        raise PermissionDenied
    tenant = get_object_or_404(Tenant, slug=slug)
    with tenancy.staff_view(tenant.ref):
        found = Conversation.objects.select_related("contact").filter(id=conversation_id).first()
    if found is None or found.contact is None:
        raise Http404
    if request.method == "POST":
        try:
            with tenancy.in_tenant(tenant.ref):
                erasure.erase_contact(found.contact)
            messages.success(request, "Erased. The certificate is in the audit log.")
        except Problem as problem:  # the tenant is on legal hold
            messages.error(request, problem.detail)
        return HttpResponseRedirect(reverse("staff:conversations", args=[slug]))
    name, _ = contact_names(found)
    asked = {"title": f"Erase {name}?", "text": TEXT, "button": "Erase", "danger": True}
    back = reverse("staff:conversation", args=[slug, conversation_id])
    frame = admin.site.each_context(request)
    return render(request, "admin/tenants/confirm.html", {**frame, **asked, "back": back})
