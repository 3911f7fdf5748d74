"""How `check_isolation` walks second factors and sign-in providers.

Both tenants trust one provider (an OpenID server of the check's own), where one person has an account that stands for
an owner at each: whoever mixes tenants up lets that person in at the wrong one.
"""

from __future__ import annotations

from collections.abc import Mapping
from http.client import HTTPConnection
from urllib.parse import parse_qsl, urlencode, urlsplit
from uuid import UUID

import pyotp
from django.core import signing

from chatplatform.isolation import Call, Planted, Who
from chatplatform.tenancy import in_platform
from tenants import selectors
from tenants.auth.members import as_member
from tenants.console import factor_pages, provider_sign_in
from tenants.models import MemberIdentity, MemberSession, SecondFactor, SignInProvider
from tenants.services import member_sessions, oidc, second_factors
from tenants.vocabulary import FactorKind

MEMBER, STAFF, NOBODY = Who.MEMBER, Who.STAFF, Who.NOBODY
SUBJECT = "u-17"  # whom the check's provider vouches for


def plant(tenant: Planted, token: str) -> None:
    """Second factors and accounts elsewhere of the member with this session, and a sign-in that is under way."""
    session = member_sessions.find(tenant.ref, token)
    assert session is not None, "it began just now"
    _plant_factors(tenant, session)
    for name in ("", "spare_", "staffs_spare_"):
        provider = _plant_provider(tenant, name)
        if not name:
            _bind(provider, session)
            _set_out(tenant, provider)
    member = as_member(selectors.state(tenant.ref.id), session)
    tenant.ids["person"] = signing.dumps(["https://x.invalid", "x", ""], salt=provider_sign_in.salt(member))


def _plant_factors(tenant: Planted, session: MemberSession) -> None:
    holder, secret = second_factors.of_member(session.membership), second_factors.new_secret()
    with in_platform():
        for name in ("", "spare_"):
            factor = SecondFactor(user_id=holder.user_id, kind=FactorKind.APP, name=f"{name}{tenant.canary}")
            factor.secret = second_factors.new_secret()
            factor.save()
            tenant.ids[f"{name}factor_id"] = str(factor.pk)
    tenant.ids["recovery_code"] = second_factors.new_codes(holder)[0]
    tenant.ids["new_secret"] = signing.dumps(secret, salt=factor_pages.salt(holder))
    tenant.codes["new_code"] = pyotp.TOTP(secret).now
    member_sessions.prove(session)


def _plant_provider(tenant: Planted, name: str) -> SignInProvider:
    """The first is the one that is really there. Their names are on the page where one signs in, for all to see."""
    made = SignInProvider(
        tenant_id=tenant.ref.id,
        name=f"{name}provider",
        issuer=f"https://{name}{tenant.canary}.invalid" if name else tenant.ids["oidc"],
        client_id=tenant.ids["oidc_client"],
        client_secret=tenant.ids["oidc_secret"],
        admitted=[f"@{tenant.canary}.invalid"],
    )
    if not name:
        made.id = UUID(tenant.ids["provider_id"])
    with in_platform():
        made.save()
    tenant.ids[f"{name}provider_id"] = str(made.pk)
    return made


def _bind(provider: SignInProvider, session: MemberSession) -> None:
    with in_platform():
        MemberIdentity.objects.create(
            tenant_id=provider.tenant_id,
            membership=session.membership,
            provider=provider,
            issuer=provider.issuer,
            subject=SUBJECT,
        )


def _set_out(tenant: Planted, provider: SignInProvider) -> None:
    """To the provider and back, but for the last step, which is walked."""
    address, journey = oidc.begin(provider, tenant.ids["answer_page"])
    carried = {"provider": str(provider.pk), **journey.as_dict(), "next": "/console/"}
    salt = provider_sign_in.salt(selectors.state(tenant.ref.id))
    tenant.ids["journey"] = signing.dumps(carried, salt=salt)
    tenant.ids["answer"] = _answer(address)


def _answer(address: str) -> str:
    """The query that the provider sends a browser back with."""
    parts = urlsplit(address)
    there = HTTPConnection(parts.netloc)
    there.request("GET", f"{parts.path}?{parts.query}")
    location = there.getresponse().headers["Location"]
    there.close()
    return urlencode(parse_qsl(urlsplit(location).query))


NEW_FACTOR = {"name": "new {canary}", "secret": "{new_secret}", "code": "{new_code}"}
CHANGED = {"name": "changed", "client_id": "{canary}", "role": "viewer"}
NEW_PROVIDER = {**CHANGED, "name": "new", "issuer": "{new_oidc}"}
A_PROVIDER, LINKED = (
    "console/sign-in-settings/providers/<uuid:provider_id>",
    "console/account/with/<uuid:provider_id>",
)
TO_SPARE = {"provider_id": "spare_provider_id"}

PAGES: Mapping[str, tuple[Call, ...]] = {
    "console/second-factor": (Call(MEMBER), Call(MEMBER, "POST", 302, {"code": "{recovery_code}"})),
    "console/second-factor/app": (Call(MEMBER), Call(MEMBER, "POST", 302, NEW_FACTOR)),
    "console/second-factor/passkey": (Call(MEMBER),),
    "console/account/second-factors": (
        Call(MEMBER, shows=True),
        Call(MEMBER, "POST", body={"remove": "{spare_factor_id}"}),
    ),
    "console/with/<uuid:provider_id>": (Call(NOBODY, status=302),),
    "console/with/<uuid:provider_id>/answer": (
        Call(NOBODY, status=302, query="{answer}", cookie=f"{provider_sign_in.COOKIE}={{journey}}"),
    ),
    LINKED: (Call(MEMBER, status=302),),
    f"{LINKED}/link": (Call(MEMBER, "POST", 302, {"person": "{person}"}, ids=TO_SPARE),),
    f"{LINKED}/unlink": (Call(MEMBER, "POST", 302, {}, ids=TO_SPARE),),
    "console/sign-in-settings": (Call(MEMBER, shows=True), Call(MEMBER, "POST", 302, {})),
    "console/sign-in-settings/providers/add": (Call(MEMBER), Call(MEMBER, "POST", 302, NEW_PROVIDER)),
    A_PROVIDER: (Call(MEMBER, shows=True), Call(MEMBER, "POST", 302, CHANGED)),
    f"{A_PROVIDER}/remove": (Call(MEMBER, "POST", 302, {}, ids=TO_SPARE),),
    "console/members/<uuid:membership_id>/reset-factors": (Call(MEMBER, "POST", 302, {}),),
}

TENANT = "admin/tenants/tenant/<uuid:tenant_id>/sign-in/"
BY_STAFF = (Call(STAFF, everybody=True),)
STAFFS: Mapping[str, tuple[Call, ...]] = {
    "admin/second-factor/": BY_STAFF,
    "admin/second-factor/app": BY_STAFF,
    "admin/second-factor/passkey": BY_STAFF,
    "admin/second-factor/all": BY_STAFF,
    TENANT: (Call(STAFF, shows=True),),
    f"{TENANT}second-factor/": (Call(STAFF, "POST", 302, {}),),
    f"{TENANT}<uuid:provider_id>/remove/": (
        Call(STAFF, "POST", 302, {}, ids={"provider_id": "staffs_spare_provider_id"}),
    ),
}
