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
from tenants.auth import authentication, contacts
from tenants.auth.contacts import Session
from tenants.models import Contact
from tenants.selectors import TenantState

SHOWN = 200  # messages on the page
NOT_STORED = {"Cache-Control": "no-store"}


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """The visitor's newest conversation, or a first one. Whoever only probes the address begins none."""
    tenant = _tenant(request)
    if tenant is None:
        return _nothing(request)
    session = _session(request, tenant)
    contact = _contact(session)
    newest = Conversation.objects.filter(contact=contact).order_by("-id").first() if contact else None
    if newest is not None:
        return HttpResponseRedirect(reverse("conversation-page", args=[newest.pk]))
    if request.method == "HEAD":
        return HttpResponse(headers=NOT_STORED)
    if "prefetch" in request.headers.get("Sec-Purpose", ""):
        return HttpResponse(status=503, headers=NOT_STORED)  # the browser asks again when somebody comes
    return _begin(request, tenant, session, contact)


@require_POST
def new(request: HttpRequest) -> HttpResponse:
    """Another conversation of the same visitor."""
    tenant = _tenant(request)
    if tenant is None:
        return _nothing(request)
    session = _session(request, tenant)
    return _begin(request, tenant, session, _contact(session))


@require_safe
def conversation(request: HttpRequest, conversation_id: UUID) -> HttpResponse:
    """One conversation of this visitor, with what was said last."""
    tenant = _tenant(request)
    session = _session(request, tenant) if tenant else None
    if tenant is None or session is None:
        return _nothing(request)
    try:
        found = access.access_conversation(authentication.of_session(session, tenant), conversation_id)
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
    contacts.write(
        response, session, tenant.ref
    )  # each visit keeps an anonymous cookie for another half year
    return response


def _tenant(request: HttpRequest) -> TenantState | None:
    found: TenantState | None = getattr(request, "tenant", None)
    return found


def _session(request: HttpRequest, tenant: TenantState) -> Session | None:
    return contacts.read(request.COOKIES, tenant.ref)


def _contact(session: Session | None) -> Contact | None:
    return Contact.objects.filter(pk=session.contact_id).first() if session else None


def _begin(
    request: HttpRequest, tenant: TenantState, session: Session | None, contact: Contact | None
) -> HttpResponse:
    if session is None or contact is None:
        if not tenant.configuration.allow_anonymous:
            return page(request, Problem(Code.NOT_ALLOWED, "Please sign in first."))
        contact = Contact.objects.create()
        session = Session(contact.pk)
    begun = conversations.begin(contact=contact, channel="web")
    response = HttpResponseRedirect(reverse("conversation-page", args=[begun.pk]))
    contacts.write(response, session, tenant.ref)
    return response


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
