"""The two throw-away tenants, and staff for as long as the check takes: made, and removed with all that is theirs."""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group

from billing.models import ModelPrice
from chatplatform import tenancy
from chatplatform.isolation import Planted, Walks, Who
from chatplatform.management.isolation.walk import host_of
from chatplatform.postgres.models import uuid7
from chatplatform.testing.oidc_standin import OidcStandIn, running_provider
from tenants import selectors
from tenants.auth.staff_proof import PROVED_AT, SIGNED_IN_AT
from tenants.models import ApiKey, AuditEntry, IsolationReport, SecondFactor, SigningKey, Tenant, User
from tenants.services import api_keys, lifecycle, provisioning, second_factors
from tenants.vocabulary import FactorKind, Scope

PREFIX = "isolation-"
LIFETIME = timedelta(hours=2)  # of what a check that was killed leaves


class TakenTwice(dict[str, Any]):
    """Codes that stay good, so that it is never the provider who refuses."""

    def pop(self, key: str, default: Any = None) -> Any:
        return self.get(key, default)


class Scene:
    """Two tenants that are planted alike. `own` walks; `other` is whom nobody must see."""

    def __init__(self, walks: Sequence[Walks]) -> None:
        self.walks = walks
        self.planted: list[Planted] = []
        self.people: list[User] = []
        self.keys: list[ApiKey] = []
        self.group = Group(name=f"{PREFIX}{secrets.token_hex(6)}")
        self.sessions: list[Any] = []
        self._open = ExitStack()

    @property
    def own(self) -> Planted:
        return self.planted[0]

    @property
    def other(self) -> Planted:
        return self.planted[1]

    def make(self) -> None:
        """Make it all."""
        staff = self._staff()
        folder = Path(self._open.enter_context(tempfile.TemporaryDirectory(prefix=PREFIX)))
        providers = [self._open.enter_context(running_provider()) for _ in range(2)]
        providers[0].codes = TakenTwice()
        with tenancy.in_platform():
            Group.objects.bulk_create([self.group])
        for _ in range(2):
            name = f"{PREFIX}{secrets.token_hex(6)}"
            row, _, _ = provisioning.request_tenant(
                "Isolation", name, configuration={"primary_model": "local"}
            )
            tenant = Planted(row.ref, f"canary{secrets.token_hex(10)}", {}, dict(staff))
            self.planted.append(tenant)
            (folder / name).mkdir()
            tenant.ids |= {"folder": str(folder / name), **_provided(tenant, *providers)}
            provisioning.provision(row.pk)
            for walks in self.walks:
                walks.plant(tenant)
            with tenancy.in_platform():
                entry = AuditEntry.objects.filter(chain=row.pk).latest("sequence")
            tenant.ids |= {**self._shared(), "audit_entry": str(entry.pk)}

    def _staff(self) -> dict[Who, dict[str, str]]:
        key, shown = api_keys.create(None, [Scope.PLATFORM], expires_in=LIFETIME, name="check_isolation")
        self.keys.append(key)
        found = {Who.NOBODY: {}, Who.PLATFORM: {"Authorization": f"Bearer {shown}"}}
        for who in (Who.STAFF, Who.LEAVING_STAFF):
            user = User(username=f"{PREFIX}{secrets.token_hex(6)}", is_staff=True, is_superuser=True)
            user.password = make_password(None)
            with tenancy.in_platform():
                User.objects.bulk_create([user])  # not save(): that would be recorded as an account of staff
                factor = SecondFactor(user=user, kind=FactorKind.APP, secret=second_factors.new_secret())
                factor.save()
                session = _session(user)
            self.sessions.append(session)
            found[who] = {"Cookie": f"{settings.SESSION_COOKIE_NAME}={session.session_key}"}
            self.people.append(user)
        return found

    def _shared(self) -> dict[str, str]:
        """Identifiers of rows that are no tenant's."""
        with tenancy.in_platform():
            return {
                "staff": str(self.people[0].pk), "leaving_staff": self.people[1].username,
                "group": str(self.group.pk), "app": "tenants",
                "price": str(ModelPrice.objects.values_list("pk", flat=True).first()),
                "report": str(IsolationReport.objects.values_list("pk", flat=True).first()),
                "signing_key": str(SigningKey.objects.values_list("pk", flat=True).first()),
            }  # fmt: skip

    def remove(self) -> None:
        """Remove it all, as far as it was made."""
        self._open.close()
        for tenant in self.planted:
            with tenancy.in_platform():
                there = Tenant.objects.filter(pk=tenant.ref.id).exists()
            if there:
                lifecycle.erase(tenant.ref.slug)
            for walks in self.walks:
                if walks.forget:
                    walks.forget(tenant)
        with tenancy.in_platform():
            ApiKey.objects.filter(pk__in=[key.pk for key in self.keys]).delete()
            Group.objects.filter(name=self.group.name)._raw_delete("default")  # unrecorded, as it was made
            for session in self.sessions:
                session.delete(session.session_key)
            people = User.objects.filter(pk__in=[user.pk for user in self.people])
            SecondFactor.objects.filter(user__in=people).delete()
            for user in people:
                user.logentry_set.all().delete()
            people._raw_delete("default")
        selectors.forget()


def _provided(tenant: Planted, provider: OidcStandIn, another: OidcStandIn) -> dict[str, str]:
    """What a tenant has to know of the providers to sign people in by the one, and to add the other."""
    id = str(uuid7())
    page = f"{settings.PUBLIC_SCHEME}://{host_of(tenant)}/console/with/{id}/answer"
    provider.redirect_uris.add(page)
    return {
        "provider_id": id, "answer_page": page, "oidc": provider.issuer, "oidc_client": provider.client_id,
        "oidc_secret": provider.client_secret, "new_oidc": another.issuer,
    }  # fmt: skip


def _session(user: User) -> Any:
    """One in which a second factor was shown just now."""
    store: Any = import_module(settings.SESSION_ENGINE).SessionStore()
    store[SESSION_KEY] = str(user.pk)
    store[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    store[HASH_SESSION_KEY] = user.get_session_auth_hash()
    store[PROVED_AT] = store[SIGNED_IN_AT] = time.time()
    store.set_expiry(int(LIFETIME.total_seconds()))
    store.create()
    return store
