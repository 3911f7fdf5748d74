"""What the pages of a tenant's console share: who is signed in, what they may see, and how it is shown.

A page says what one has to be allowed to open it; there is no other way into the console's addresses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar
from urllib.parse import urlencode

from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse

from chatplatform.api import views as answers
from chatplatform.api.forms import refuse
from chatplatform.api.problem import Code, Problem, as_problem
from chatplatform.observability import context
from tenants.auth import members
from tenants.auth.members import Member
from tenants.selectors import TenantState
from tenants.services import access
from tenants.vocabulary import Action, ActorKind, MemberRole

T = TypeVar("T")
View = Callable[..., HttpResponseBase]
LOOK = ("GET", "HEAD")
BOTH = (*LOOK, "POST")
INSIDE = re.compile(r"/console/[A-Za-z0-9/_.~?&=%+-]*")
ANYBODY, HALF_IN, SIGNED_IN = "anybody", "a session", "signed in"
NAVIGATION: tuple[tuple[str, str, str, Action | None], ...] = (
    ("Overview", "", "console-overview", None),
    ("Usage", "What was used and what it costs, by day and model", "console-usage", Action.VIEW_USAGE),
    ("Invoices", "To read, to print, and every call behind them", "console-invoices", Action.VIEW_INVOICES),
    ("Members", "Who works here, and what they may do", "console-members", Action.VIEW_MEMBERS),
    ("Sign-in", "Providers, and second factors", "console-sign-in-settings", Action.MANAGE_SIGN_IN),
)
# What an action says on the page that it leads to; named in the address, so that nothing has to be kept.
NOTICES = {
    "invited": "The invitation is on its way.",
    "changed": "The member is changed, as of now.",
    "disabled": "The member is shut out, as of now.",
    "reset-factors": "The member’s second factors are gone, and the member is signed out everywhere.",
    "enabled": "The member may sign in again.",
    "password": "Your password is changed, and you are signed out everywhere else.",
    "linked": "From now on you can sign in with that account.",
    "not-linked": "That account was not linked: it stands for another member already, or it took too long.",
    "unlinked": "That account lets nobody in as you any more.",
    "sign-in": "It is changed, as of now.",
    "provider": "The provider is there. Tell it the addresses below.",
    "session": "That browser is signed out.",
    "sessions": "You are signed out everywhere else.",
    "signed-out": "You are signed out.",
    "joined": "Welcome! Sign in with your new password.",
    "reset": "Your password is changed. Sign in with it.",
    "asked": "If this address is a member’s, a mail with a link is on its way.",
}


@dataclass(frozen=True, slots=True)
class Visit:
    """A request for a page, by somebody who may open it."""

    request: HttpRequest
    member: Member

    @property
    def tenant(self) -> TenantState:
        return self.member.tenant

    def may(self, action: Action) -> bool:
        return self.member.may(action)

    def render(self, template: str, tab: str, **more: Any) -> HttpResponse:
        shown = {
            "member": self.member,
            "role": MemberRole(self.member.role).label,
            "navigation": [
                {"title": title, "about": about, "url": reverse(name), "current": name == tab}
                for title, about, name, action in NAVIGATION
                if action is None or self.may(action)
            ],
            "tab": tab,
            **more,
        }
        return show(self.request, self.tenant, template, **shown)


def page(action: Action | None, methods: Sequence[str] = LOOK) -> Callable[[View], View]:
    """A page for members who may do this (None: for all of them). The view gets a `Visit`."""

    def decorated(view: View) -> View:
        def answer(request: HttpRequest, tenant: TenantState, **kwargs: Any) -> HttpResponseBase:
            entrance = members.entrance_of(request, tenant)
            if entrance is None:
                return to_door(request, "console-sign-in")
            if (member := entrance.member) is None:
                return to_door(request, "console-second-factor")
            if action is not None:
                access.access_action(member, action)
            with acting_as(member):
                return view(Visit(request, member), **kwargs)

        return _guarded(view, answer, methods, action or SIGNED_IN)

    return decorated


def half_page(view: View) -> View:
    """A page for who has a session, even one that waits for a second factor. The view gets the request and the
    `Entrance`.
    """

    def answer(request: HttpRequest, tenant: TenantState, **kwargs: Any) -> HttpResponseBase:
        entrance = members.entrance_of(request, tenant)
        if entrance is None:
            return to_door(request, "console-sign-in")
        if (member := entrance.member) is None:
            return view(request, entrance, **kwargs)
        with acting_as(member):
            return view(request, entrance, **kwargs)

    return _guarded(view, answer, BOTH, HALF_IN)


def acting_as(member: Member) -> AbstractContextManager[None]:
    """What is done inside, the audit log has as done by this member."""
    return context.acting(lambda: (ActorKind.MEMBER, str(member.membership_id)))


def open_page(view: View) -> View:
    """A page for who is not signed in yet. The view gets the request and the tenant."""
    return _guarded(view, view, BOTH, ANYBODY)


def _guarded(view: View, answer: View, methods: Sequence[str], needs: str) -> View:
    @wraps(view)
    def guarded(request: HttpRequest, **kwargs: Any) -> HttpResponseBase:
        tenant: TenantState | None = getattr(request, "tenant", None)
        try:
            if tenant is None:
                raise Problem(Code.NOT_FOUND, "There is nothing at this address.")
            response = (
                answer(request, tenant=tenant, **kwargs)
                if request.method in methods
                else HttpResponseNotAllowed(methods)
            )
        except Problem as problem:
            response = answers.page(request, problem)
        response.headers["Cache-Control"] = "no-store"
        return response

    guarded.console_needs = needs  # type: ignore[attr-defined]
    return guarded


def show(
    request: HttpRequest, tenant: TenantState, template: str, *, status: int = 200, **more: Any
) -> HttpResponse:
    """A page in the tenant's name."""
    shown = {
        "tenant": {"name": tenant.name, "slug": tenant.ref.slug},
        "notice": NOTICES.get(request.GET.get("done", "")),
        **more,
    }
    return render(request, f"console/{template}.html", shown, status=status)


def go(name: str, *args: object, done: str = "") -> HttpResponseRedirect:
    """To another page, which says what has been done."""
    return HttpResponseRedirect(reverse(name, args=args) + (f"?{urlencode({'done': done})}" if done else ""))


def posted(request: HttpRequest) -> Any:
    """What a form is bound to: nothing, as long as the page is only looked at."""
    return request.POST if request.method == "POST" else None


def attempt(form: forms.Form, work: Callable[[], T]) -> T | None:
    """What a service answers to a valid form; None if it refuses, which the form then says."""
    try:
        return work()
    except (Problem, ValidationError) as error:
        refuse(form, as_problem(error))
        return None


def to_door(request: HttpRequest, name: str) -> HttpResponse:
    """To where one gets in, and then to the page that was wanted."""
    query = urlencode({"next": request.get_full_path()}) if request.method in LOOK else ""
    return HttpResponseRedirect(reverse(name) + (f"?{query}" if query else ""))


def wanted(request: HttpRequest) -> str:
    """The page of the console that was wanted before the door; the first one if none was."""
    there = request.GET.get("next", "")
    return there if INSIDE.fullmatch(there) else reverse("console-overview")
