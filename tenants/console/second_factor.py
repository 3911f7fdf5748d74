"""A member's second factors: asked for at the door, added and removed."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse

from tenants.auth.members import Entrance
from tenants.console import factor_pages
from tenants.console.factor_pages import Door
from tenants.console.frame import half_page, show, to_door, wanted
from tenants.services import member_sessions, second_factors

PAGES = {
    "prove": "console-second-factor",
    "app": "console-add-app",
    "passkey": "console-add-passkey",
    "factors": "console-second-factors",
}


class MemberDoor(Door):
    """A member in a session, which may wait for the second factor."""

    def __init__(self, request: HttpRequest, entrance: Entrance) -> None:
        super().__init__(request, entrance.holder, entrance.tenant.name)
        self.entrance = entrance

    def keep(self, state: Any) -> None:
        member_sessions.keep_ceremony(self.entrance.session, state)

    def take(self) -> Any:
        return member_sessions.take_ceremony(self.entrance.session)

    def proved(self) -> None:
        member_sessions.prove(self.entrance.session)

    def may_change(self) -> bool:
        is_in = self.entrance.member is not None or not second_factors.has_any(self.holder)
        return is_in and member_sessions.is_recent(self.entrance.session)

    def way_back(self) -> HttpResponse:
        has_any = second_factors.has_any(self.holder)
        return to_door(self.request, PAGES["prove"] if has_any else "console-sign-in")

    def url(self, page: str) -> str:
        return wanted(self.request) if page == "wanted" else reverse(PAGES[page])

    def show(self, template: str, *, status: int = 200, **more: Any) -> HttpResponse:
        shown = {
            "urls": {page: reverse(name) for page, name in PAGES.items()},
            "is_in": self.entrance.member is not None,
            "home": reverse("console-account"),
            "sign_out": reverse("console-sign-out"),
            **more,
        }
        return show(self.request, self.entrance.tenant, template, status=status, **shown)


@half_page
def prove(request: HttpRequest, entrance: Entrance) -> HttpResponseBase:
    return factor_pages.prove(MemberDoor(request, entrance))


@half_page
def listing(request: HttpRequest, entrance: Entrance) -> HttpResponseBase:
    return factor_pages.listing(MemberDoor(request, entrance))


@half_page
def add_app(request: HttpRequest, entrance: Entrance) -> HttpResponseBase:
    return factor_pages.add_app(MemberDoor(request, entrance))


@half_page
def add_passkey(request: HttpRequest, entrance: Entrance) -> HttpResponseBase:
    return factor_pages.add_passkey(MemberDoor(request, entrance))
