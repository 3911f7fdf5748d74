"""The second factors of our own people: the pages that members have, at the staff's console."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.contrib.auth import logout
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import path, reverse
from django.utils.http import url_has_allowed_host_and_scheme, urlencode
from django.views.decorators.cache import never_cache

from tenants.auth import staff_proof
from tenants.console import factor_pages
from tenants.console.factor_pages import Door
from tenants.models import User
from tenants.services import second_factors

PAGES = {
    "prove": "staff-second-factor",
    "app": "staff-add-app",
    "passkey": "staff-add-passkey",
    "factors": "staff-second-factors",
}
CEREMONY = "passkey_ceremony"


class StaffDoor(Door):
    """One of our own people in a session, who may still have to show the second factor."""

    def keep(self, state: Any) -> None:
        self.request.session[CEREMONY] = state

    def take(self) -> Any:
        return self.request.session.pop(CEREMONY, None)

    def proved(self) -> None:
        staff_proof.note_proof(self.request)

    def may_change(self) -> bool:
        is_in = not staff_proof.is_missing(self.request) or not second_factors.has_any(self.holder)
        return is_in and staff_proof.is_recent(self.request)

    def way_back(self) -> HttpResponse:
        query = urlencode({"next": self.request.path})
        if second_factors.has_any(self.holder):
            return HttpResponseRedirect(f"{self.url('prove')}?{query}")
        logout(self.request)
        return HttpResponseRedirect(f"{reverse('admin:login')}?{query}")

    def url(self, page: str) -> str:
        if page != "wanted":
            return reverse(PAGES[page])
        there = self.request.GET.get("next", "")
        is_ours = there.startswith("/admin/") and url_has_allowed_host_and_scheme(there, None)
        return there if is_ours else reverse("admin:index")

    def show(self, template: str, *, status: int = 200, **more: Any) -> HttpResponse:
        shown = {
            "tenant": {"name": "Staff console"},
            "urls": {page: reverse(name) for page, name in PAGES.items()},
            "is_in": not staff_proof.is_missing(self.request),
            "home": reverse("admin:index"),
            "home_title": "Back to the console",
            "sign_out": reverse("admin:logout"),
            **more,
        }
        return render(self.request, f"console/{template}.html", shown, status=status)


def _page(view: Callable[[Door], HttpResponse]) -> Callable[[HttpRequest], HttpResponseBase]:
    @never_cache
    @wraps(view)
    def page(request: HttpRequest) -> HttpResponseBase:
        user = request.user
        if not isinstance(user, User) or not user.is_staff:
            return HttpResponseRedirect(reverse("admin:login"))
        if request.method not in ("GET", "HEAD", "POST"):
            return HttpResponseNotAllowed(("GET", "HEAD", "POST"))
        issuer = f"Staff of {settings.PLATFORM_DOMAIN}"
        return view(StaffDoor(request, second_factors.of_staff(user), issuer))

    return page


urlpatterns = [
    path("", _page(factor_pages.prove), name=PAGES["prove"]),
    path("app", _page(factor_pages.add_app), name=PAGES["app"]),
    path("passkey", _page(factor_pages.add_passkey), name=PAGES["passkey"]),
    path("all", _page(factor_pages.listing), name=PAGES["factors"]),
]
