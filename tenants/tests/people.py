"""Members of the tenants of the cast, and a browser at a tenant's console."""

from __future__ import annotations

from functools import cache
from typing import Any

from django.contrib.auth.hashers import make_password
from django.test import Client
from django.utils import timezone

from chatplatform import tenancy
from tenants.auth import members
from tenants.models import Membership, User
from tenants.selectors import TenantState
from tenants.services import member_sessions
from tenants.services import members as service
from tenants.vocabulary import MemberRole

PASSWORD = "correct-horse-9"


@cache
def _hashed() -> str:
    return make_password(PASSWORD)  # slow by design; once is enough


def member(
    tenant: TenantState, role: str = MemberRole.OWNER, email: str = "", *, joined: bool = True
) -> Membership:
    """A member who has joined, with PASSWORD, unless told otherwise."""
    membership = service.invite(tenant.ref, email or f"{role}@example.com", role, by="test")
    if joined:
        with tenancy.in_platform():
            User.objects.filter(pk=membership.user_id).update(password=_hashed())
            membership.user.password = _hashed()
            membership.joined_at = timezone.now()
            membership.save()
    return membership


def roles(tenant: TenantState) -> dict[str, str]:
    """The tenant's members and their roles."""
    with tenancy.in_platform():
        found = Membership.objects.filter(tenant_id=tenant.ref.id).values_list("email", "role")
        return dict(found)


class Desk:
    """A browser at the console of a tenant; addresses begin below /console/."""

    def __init__(self, tenant: TenantState, who: Membership | None = None, **client: Any) -> None:
        self.tenant = tenant
        self.client = Client(
            headers={"host": f"{tenant.ref.slug}.localhost", "accept": "text/html"}, **client
        )
        if who is not None:
            self.client.cookies[members.COOKIE] = member_sessions.start(who, agent="test")

    def get(self, path: str, **query: Any) -> Any:
        return self.client.get(f"/console/{path}", query)

    def post(self, path: str, **data: Any) -> Any:
        return self.client.post(f"/console/{path}", data)

    def text(self, path: str, **query: Any) -> str:
        """The page, which must be there."""
        answer = self.get(path, **query)
        assert answer.status_code == 200, (answer.status_code, answer.headers)
        return str(answer.content.decode())

    def sign_in(self, email: str, password: str = PASSWORD, **query: Any) -> Any:
        address = "/console/sign-in" + (f"?next={query['next']}" if query else "")
        return self.client.post(address, {"email": email, "password": password})

    def is_in(self) -> bool:
        return bool(self.get("account").status_code == 200)
