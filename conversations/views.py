"""The tenant's chat page."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.middleware.csrf import get_token
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from chatplatform.api.problem import Code, Problem
from chatplatform.api.views import page
from conversations import markdown, selectors
from conversations.models import Conversation, Message
from conversations.services import access, conversations
from conversations.vocabulary import Role
from tenants.auth import contacts
from tenants.auth.principal import Principal
from tenants.models import Contact
from tenants.selectors import TenantState
from tenants.vocabulary import Scope

SHOWN = 200  # messages on the page
NOT_STORED = {"Cache-Control": "no-store"}


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """The visitor's newest conversation, or a first one. Whoever only probes the address begins none."""
    tenant = _tenant(request)
    if tenant is None:
        return _nothing(request)
    contact = _contact(request, tenant)
    newest = Conversation.objects.filter(contact=contact).order_by("-id").first() if contact else None
    if newest is not None:
        return HttpResponseRedirect(reverse("conversation-page", args=[newest.pk]))
    if request.method == "HEAD":
        return HttpResponse(headers=NOT_STORED)
    if "prefetch" in request.headers.get("Sec-Purpose", ""):
        return HttpResponse(status=503, headers=NOT_STORED)  # the browser asks again when somebody comes
    return _begin(request, tenant, contact)


@require_POST
def new(request: HttpRequest) -> HttpResponse:
    """Another conversation of the same visitor."""
    tenant = _tenant(request)
    return _begin(request, tenant, _contact(request, tenant)) if tenant else _nothing(request)


@require_safe
def conversation(request: HttpRequest, conversation_id: UUID) -> HttpResponse:
    """One conversation of this visitor, with what was said last."""
    tenant = _tenant(request)
    contact = _contact(request, tenant) if tenant else None
    if tenant is None or contact is None:
        return _nothing(request)
    try:
        found = access.access_conversation(_principal(tenant, contact), conversation_id)
    except Problem as problem:
        return page(request, problem)
    newest = selectors.messages_of(found).order_by("-id")[:SHOWN]
    said = [_shown(message) for message in reversed(newest)]
    running = selectors.running_reply(found)
    context = {
        "tenant": {"name": tenant.name, "slug": tenant.ref.slug},
        "conversation": {"id": found.pk, "status": found.status},
        "greeting": found.greeting,
        "messages": said,
        "page_config": {
            "conversation_id": str(found.pk),
            "ws_path": f"/ws/{found.pk}",
            "api_base": "/api/v1",
            "csrf_token": get_token(request),
            "tenant_name": tenant.name,
            "greeting": found.greeting,
            "status": found.status,
            "running_reply_id": str(running.pk) if running else None,
            "assistant_label": "Assistant",
        },
    }
    response = render(request, "chat/page.html", context)
    response.headers["Cache-Control"] = "no-store"
    contacts.write(response, contact.pk, tenant.ref)  # each visit keeps the cookie for another half year
    return response


def _tenant(request: HttpRequest) -> TenantState | None:
    found: TenantState | None = getattr(request, "tenant", None)
    return found


def _contact(request: HttpRequest, tenant: TenantState) -> Contact | None:
    contact_id = contacts.read(request.COOKIES, tenant.ref)
    return Contact.objects.filter(pk=contact_id).first() if contact_id else None


def _begin(request: HttpRequest, tenant: TenantState, contact: Contact | None) -> HttpResponse:
    if contact is None:
        if not tenant.configuration.allow_anonymous:
            return page(request, Problem(Code.NOT_ALLOWED, "Please sign in first."))
        contact = Contact.objects.create()
    begun = conversations.begin(contact=contact, channel="web")
    response = HttpResponseRedirect(reverse("conversation-page", args=[begun.pk]))
    contacts.write(response, contact.pk, tenant.ref)
    return response


def _principal(tenant: TenantState, contact: Contact) -> Principal:
    return Principal(f"contact:{contact.pk}", frozenset({Scope.CHAT}), tenant, contact_id=contact.pk)


def _shown(message: Message) -> dict[str, Any]:
    feedback = getattr(message, "feedback", None)
    return {
        **selectors.message_as_json(message),
        # What visitors write is shown as they wrote it.
        "html": "" if message.role == Role.USER else markdown.to_html(message.content),
        "feedback": feedback.rating if feedback else None,
    }


def _nothing(request: HttpRequest) -> HttpResponse:
    return page(request, Problem(Code.NOT_FOUND, "There is nothing at this address."))
