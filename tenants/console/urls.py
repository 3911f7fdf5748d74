from __future__ import annotations

from django.urls import path

from tenants.console import account, people, provider_sign_in, second_factor, sign_in, sign_in_settings

MEMBER = "members/<uuid:membership_id>"

urlpatterns = [
    path("sign-in", sign_in.sign_in, name="console-sign-in"),
    path("sign-out", sign_in.sign_out, name="console-sign-out"),
    path("forgot", sign_in.forgot, name="console-forgot"),
    path("join", sign_in.join, name="console-join"),
    path("reset", sign_in.reset, name="console-reset"),
    path("with/<uuid:provider_id>", provider_sign_in.begin, name="console-provider-begin"),
    path("with/<uuid:provider_id>/answer", provider_sign_in.finish, name="console-provider-answer"),
    path("account/with/<uuid:provider_id>", provider_sign_in.begin_link, name="console-begin-link"),
    path("account/with/<uuid:provider_id>/link", provider_sign_in.link, name="console-link"),
    path("account/with/<uuid:provider_id>/unlink", provider_sign_in.unlink, name="console-unlink"),
    path("sign-in-settings", sign_in_settings.overview, name="console-sign-in-settings"),
    path("sign-in-settings/providers/add", sign_in_settings.add, name="console-add-provider"),
    path("sign-in-settings/providers/<uuid:provider_id>", sign_in_settings.one, name="console-provider"),
    path(
        "sign-in-settings/providers/<uuid:provider_id>/remove",
        sign_in_settings.remove,
        name="console-remove-provider",
    ),
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
