from __future__ import annotations

from django.urls import path

from tenants.console import account, people, second_factor, sign_in

MEMBER = "members/<uuid:membership_id>"

urlpatterns = [
    path("sign-in", sign_in.sign_in, name="console-sign-in"),
    path("sign-out", sign_in.sign_out, name="console-sign-out"),
    path("forgot", sign_in.forgot, name="console-forgot"),
    path("join", sign_in.join, name="console-join"),
    path("reset", sign_in.reset, name="console-reset"),
    path("second-factor", second_factor.prove, name="console-second-factor"),
    path("second-factor/app", second_factor.add_app, name="console-add-app"),
    path("second-factor/passkey", second_factor.add_passkey, name="console-add-passkey"),
    path("account/second-factors", second_factor.listing, name="console-second-factors"),
    path("members", people.listing, name="console-members"),
    path("members/invite", people.invite, name="console-invite"),
    path(MEMBER, people.one, name="console-member"),
    path(f"{MEMBER}/invite-again", people.invite_again, name="console-invite-again"),
    path(f"{MEMBER}/disable", people.disable, name="console-disable"),
    path(f"{MEMBER}/reset-factors", people.reset_factors, name="console-reset-factors"),
    path(f"{MEMBER}/enable", people.enable, name="console-enable"),
    path("account", account.account, name="console-account"),
    path("account/sessions/<uuid:session_id>/end", account.end_session, name="console-end-session"),
    path("account/sessions/end-others", account.end_others, name="console-end-others"),
]
