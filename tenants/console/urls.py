from __future__ import annotations

from django.urls import path

from tenants.console import account, people, sign_in

MEMBER = "members/<uuid:membership_id>"

urlpatterns = [
    path("sign-in", sign_in.sign_in, name="console-sign-in"),
    path("sign-out", sign_in.sign_out, name="console-sign-out"),
    path("forgot", sign_in.forgot, name="console-forgot"),
    path("join", sign_in.join, name="console-join"),
    path("reset", sign_in.reset, name="console-reset"),
    path("members", people.listing, name="console-members"),
    path("members/invite", people.invite, name="console-invite"),
    path(MEMBER, people.one, name="console-member"),
    path(f"{MEMBER}/invite-again", people.invite_again, name="console-invite-again"),
    path(f"{MEMBER}/disable", people.disable, name="console-disable"),
    path(f"{MEMBER}/enable", people.enable, name="console-enable"),
    path("account", account.account, name="console-account"),
    path("account/sessions/<uuid:session_id>/end", account.end_session, name="console-end-session"),
    path("account/sessions/end-others", account.end_others, name="console-end-others"),
]
