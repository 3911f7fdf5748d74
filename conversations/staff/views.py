"""Picking a tenant, its conversations, and reading one. A look is logged before it happens."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from unfold.widgets import UnfoldAdminTextInputWidget

from chatplatform import tenancy
from conversations.staff import listing, reading
from conversations.staff.forms import FilterForm
from tenants import audit
from tenants.models import Tenant, User
from tenants.services.migration import WITH_SCHEMA
from tenants.vocabulary import AuditAction

PERMISSION = "conversations.view_conversation"
ERASE = "tenants.delete_contact"
PICKED = "staff_tenant"


def tenants(request: HttpRequest) -> HttpResponse:
    """The picker. Goes on to the tenant of the last visit, unless `?pick` asks for another."""
    _allowed(request)
    last = request.session.get(PICKED)
    if last and "pick" not in request.GET and Tenant.objects.filter(slug=last).exists():
        return HttpResponseRedirect(reverse("staff:conversations", args=[last]))
    q = request.GET.get("q", "").strip().replace("\0", "")[:200]
    found = Tenant.objects.order_by("name")
    if q:
        found = found.filter(Q(name__icontains=q) | Q(slug__icontains=q) | Q(domains__domain=q)).distinct()
    search = UnfoldAdminTextInputWidget(
        attrs={"type": "search", "placeholder": "Name or slug", "aria-label": "Search tenants"}
    ).render("q", q)
    page = Paginator(found, 30).get_page(request.GET.get("page"))
    return _page(request, "tenants", title="Look into a tenant", tenants=page, q=q, search=search, last=last)


def conversations(request: HttpRequest, slug: str) -> HttpResponse:
    """The conversations of one tenant, newest first."""
    _allowed(request)
    tenant = _picked(request, slug)
    form = FilterForm(request.GET)
    wanted = _wanted(request, form)
    shown = None
    if tenant.status in WITH_SCHEMA:
        _note_list(tenant, wanted)
        with tenancy.staff_view(tenant.ref):
            shown = listing.listing(wanted)
    return _page(
        request,
        "conversations",
        title=f"Conversations of {tenant.name}",
        tenant=tenant,
        form=form,
        listing=shown,
        wanted=wanted,
        filtered=bool(wanted.q or wanted.status or wanted.channel),
        older=_turned(request, before=shown.older) if shown and shown.older else None,
        newer=_turned(request, after=shown.newer) if shown and shown.newer else None,
    )


def conversation(request: HttpRequest, slug: str, conversation_id: UUID) -> HttpResponse:
    """One conversation, as a chat."""
    user = _allowed(request)
    tenant = _picked(request, slug)
    if tenant.status not in WITH_SCHEMA:
        raise Http404
    audit.record(AuditAction.CONVERSATION_READ, conversation_id, tenant=tenant.id)
    with tenancy.staff_view(tenant.ref):
        shown = reading.transcript(conversation_id, _uuid(request.GET.get("before")))
    if shown is None:
        raise Http404
    return _page(
        request,
        "conversation",
        title=f"{shown.contact}, {tenant.name}",
        tenant=tenant,
        transcript=shown,
        may_erase=shown.contact_id is not None and user.has_perm(ERASE),
        may_see_configuration=user.has_perm("tenants.view_configurationversion"),
    )


def _note_list(tenant: Tenant, wanted: listing.Wanted) -> None:
    """Write down a look at the list, before it happens: whatever fails afterwards, the log has it."""
    narrowed: dict[str, Any] = {"status": wanted.status, "channel": wanted.channel}
    if wanted.q:  # people search for people, so the log holds no more than a digest of it
        audit.record(
            AuditAction.CONVERSATIONS_SEARCHED, tenant=tenant.id, q=audit.digest(wanted.q), **narrowed
        )
    else:
        audit.record(AuditAction.CONVERSATIONS_LISTED, tenant=tenant.id, **narrowed)


def _allowed(request: HttpRequest) -> User:
    user = request.user
    if not isinstance(user, User) or not user.has_perm(PERMISSION):
        raise PermissionDenied
    return user


def _picked(request: HttpRequest, slug: str) -> Tenant:
    tenant = get_object_or_404(Tenant, slug=slug)
    if request.session.get(PICKED) != slug:
        request.session[PICKED] = slug
    return tenant


def _wanted(request: HttpRequest, form: FilterForm) -> listing.Wanted:
    """What a valid form asks for; a field that is wrong narrows nothing and says so on the page."""
    form.is_valid()
    values: dict[str, Any] = form.cleaned_data
    return listing.Wanted(
        q=values.get("q", ""),
        status=values.get("status", ""),
        channel=values.get("channel", ""),
        before=_uuid(request.GET.get("before")),
        after=_uuid(request.GET.get("after")),
    )


def _turned(request: HttpRequest, **cursor: object) -> str:
    """The address of another page of the same list."""
    query = request.GET.copy()
    query.pop("before", None)
    query.pop("after", None)
    query.update({name: str(value) for name, value in cursor.items()})
    return "?" + query.urlencode()


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        return None


def _page(request: HttpRequest, template: str, **context: Any) -> HttpResponse:
    frame = admin.site.each_context(request)
    return render(request, f"staff/{template}.html", {**frame, **context})
