"""Whether one of our own people has shown a second factor in this session."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlencode

from asgiref.sync import markcoroutinefunction, sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase

from tenants.models import User
from tenants.services import second_factors

PROVED_AT, SIGNED_IN_AT = "second_factor_at", "signed_in_at"
RECENT = 900.0  # s, as for members
DOOR = "/admin/second-factor/"
# What somebody who has shown the password alone can open, beside pages that are open to all.
OPEN = (DOOR, "/admin/login/", "/admin/logout/")


class AskForSecondFactor:
    """Django middleware, asynchronous, inside the staff's session: without the second factor every page leads to it."""

    async_capable, sync_capable = True, False

    def __init__(self, get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]]) -> None:
        self.get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        has_session = settings.SESSION_COOKIE_NAME in request.COOKIES
        if has_session and not request.path.startswith(OPEN) and await sync_to_async(is_missing)(request):
            query = urlencode({"next": request.get_full_path()}) if request.method == "GET" else ""
            return HttpResponseRedirect(DOOR + (f"?{query}" if query else ""))
        return await self.get_response(request)


def is_missing(request: HttpRequest) -> bool:
    """Whether somebody is signed in who still has to show one, or to add the first."""
    if not isinstance(request.user, User) or PROVED_AT in request.session:
        return False
    holder = second_factors.of_staff(request.user)
    return holder.needed or second_factors.has_any(holder)


def is_recent(request: HttpRequest) -> bool:
    """Whether they have shown who they are a short while ago."""
    shown = max(request.session.get(PROVED_AT, 0.0), request.session.get(SIGNED_IN_AT, 0.0))
    return bool(shown > time.time() - RECENT)


def note_proof(request: HttpRequest) -> None:
    """A second factor was shown, or added."""
    request.session[PROVED_AT] = time.time()


def note_sign_in(sender: Any, request: HttpRequest, **_: Any) -> None:
    """The password was right. What was shown in this session before does not count any more."""
    request.session.pop(PROVED_AT, None)
    request.session[SIGNED_IN_AT] = time.time()
