"""Second factors and sign-in providers, as the tests of the audit log have them made and used."""

from __future__ import annotations

import time
from contextlib import suppress

import pyotp
from django.conf import settings
from pytest import MonkeyPatch

from chatplatform import tenancy
from chatplatform.api.problem import Problem
from chatplatform.testing.oidc_standin import running_provider
from tenants.models import Membership, SignInProvider
from tenants.selectors import TenantState
from tenants.services import second_factors, sign_in_providers
from tenants.services.oidc import Person
from tenants.services.second_factors import Holder
from tenants.tests.console import person
from tenants.tests.people import member
from tenants.vocabulary import MemberRole


def holder(acme: TenantState | None) -> Holder:
    """A member of this tenant, or one of staff."""
    if acme is None:
        return second_factors.of_staff(person("ada"))
    with tenancy.in_platform():
        return second_factors.of_member(member(acme))


def prove(acme: TenantState | None) -> Holder:
    """Add an app and show its next code, and a wrong one."""
    whose, secret = holder(acme), second_factors.new_secret()
    app = pyotp.TOTP(secret)
    second_factors.add_app(whose, "Phone", secret, app.now())
    second_factors.prove_by_code(whose, app.at(time.time() + 30))
    with suppress(Problem):
        second_factors.prove_by_code(whose, "000000")
    return whose


def remove_factor(acme: TenantState | None) -> None:
    whose = prove(acme)
    second_factors.remove(whose, second_factors.listed(whose)[0].pk)


def provider(acme: TenantState, monkeypatch: MonkeyPatch) -> SignInProvider:
    """Added, and changed."""
    monkeypatch.setattr(settings, "ALLOW_PRIVATE_KEY_SERVERS", True)
    with running_provider() as there:
        values = {"client_id": "x", "client_secret": "", "admitted": "", "role": MemberRole.VIEWER}
        said = {**values, "issuer": there.issuer, "asks_second_factor": False}
        made = sign_in_providers.save(acme.ref, name="SSO", **said)  # type: ignore[arg-type]
        return sign_in_providers.save(acme.ref, name="Work", provider=made, **said)  # type: ignore[arg-type]


def link(acme: TenantState, monkeypatch: MonkeyPatch) -> None:
    """Linked, and unlinked."""
    made, ada = provider(acme, monkeypatch), member(acme)
    sign_in_providers.link(ada.pk, made, Person(made.issuer, "u-17", ""))
    with tenancy.in_platform():
        [identity] = Membership.objects.get(pk=ada.pk).identities.all()
    sign_in_providers.unlink(identity)
