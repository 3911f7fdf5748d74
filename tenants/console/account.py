"""One's own account: where one is signed in, and another password."""

from __future__ import annotations

from uuid import UUID

from django import forms
from django.http.response import HttpResponseBase

from tenants.console.frame import BOTH, Visit, attempt, go, page, posted
from tenants.console.sign_in import PasswordForm
from tenants.services import access, member_sessions, members

TAB = "console-account"
# In this order: a browser names those it descends from, too.
BROWSERS = ("Firefox", "Edg", "OPR", "SamsungBrowser", "Chrome", "Safari")
SYSTEMS = ("Android", "iPhone", "iPad", "Windows", "Macintosh", "Linux")
CALLED = {"Edg": "Edge", "OPR": "Opera", "SamsungBrowser": "Samsung Internet", "Macintosh": "Mac"}


class ChangeForm(PasswordForm):
    """The password as it is, and as it is to be."""

    old = forms.CharField(
        label="Your password now",
        max_length=1000,
        strip=False,
        widget=forms.PasswordInput({"autocomplete": "current-password"}),
    )
    field_order = ("old", "password", "again")


@page(None, BOTH)
def account(visit: Visit) -> HttpResponseBase:
    """Both on one page; the form changes the password."""
    form = ChangeForm(posted(visit.request))
    if form.is_valid():
        values, session = form.cleaned_data, access.access_session(visit.member, visit.member.session_id)
        attempt(
            form,
            lambda: members.change_password(session, values["old"], values["password"]),
        )
        if not form.errors:
            return go(TAB, done="password")
    sessions = [(one, browser(one.agent)) for one in access.access_sessions(visit.member)]
    factors = access.access_factors(visit.member)
    return visit.render(
        "account",
        TAB,
        form=form,
        sessions=sessions,
        factors=factors,
        ways=access.access_ways_in(visit.member),
    )


@page(None, ("POST",))
def end_session(visit: Visit, session_id: UUID) -> HttpResponseBase:
    member_sessions.end(access.access_session(visit.member, session_id))
    return go(TAB, done="session")


@page(None, ("POST",))
def end_others(visit: Visit) -> HttpResponseBase:
    session = access.access_session(visit.member, visit.member.session_id)
    member_sessions.end_all(session.membership, but=session)
    return go(TAB, done="sessions")


def browser(agent: str) -> str:
    """`Firefox on Linux`, out of what a browser says of itself; that itself if it says nothing known."""
    known = [next((one for one in names if one in agent), "") for names in (BROWSERS, SYSTEMS)]
    return " on ".join(CALLED.get(one, one) for one in known) if all(known) else agent or "Unknown browser"
