"""A person at the staff console."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Permission
from django.test import Client

from chatplatform import tenancy
from tenants.models import User
from tenants.selectors import TenantState

PASSWORD = "correct-horse-9"
KEY = re.compile(r"cp_live_[0-9A-Za-z]{12}_[0-9A-Za-z]{38}")


@cache
def _hashed() -> str:
    return make_password(PASSWORD)  # slow by design; once is enough


def person(name: str, *permissions: str, staff: bool = True, superuser: bool = False) -> User:
    """An account with these permissions (`app.codename`)."""
    with tenancy.in_platform():
        user = User.objects.create(
            username=name, password=_hashed(), is_staff=staff or superuser, is_superuser=superuser
        )
        for permission in permissions:
            app, codename = permission.split(".")
            user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    return user


def page(tenant: TenantState, name: str = "") -> str:
    """Address of a page of a tenant."""
    return f"tenants/tenant/{tenant.ref.id}/{name}"


class Console:
    """The console in the browser of one account; addresses begin below /admin/."""

    def __init__(self, user: User | None = None, host: str = settings.PLATFORM_DOMAIN, **client: Any) -> None:
        self.client = Client(headers={"host": host, "accept": "text/html"}, **client)
        if user is not None:
            with tenancy.in_platform():
                self.client.force_login(user)

    def get(self, path: str, **query: Any) -> Any:
        return self.client.get(f"/admin/{path}", query)

    def post(self, path: str, **data: Any) -> Any:
        return self.client.post(f"/admin/{path}", data)

    def text(self, path: str, **query: Any) -> str:
        """The page, which must be there."""
        answer = self.get(path, **query)
        assert answer.status_code == 200, (answer.status_code, answer.headers)
        return str(answer.content.decode())
