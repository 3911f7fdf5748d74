"""What tests of tokens share."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from django.utils import timezone

from chatplatform import tenancy
from chatplatform.api.problem import Code, Problem
from chatplatform.testing.backend import Pair, pair, signed
from tenants.auth import authentication, tokens
from tenants.auth.awaiting import with_keys
from tenants.auth.principal import Principal
from tenants.models import Contact, SigningKey, TokenIssuer
from tenants.selectors import TenantState
from tenants.services import key_sets, signing_keys, token_issuers

SHOP = "https://shop.example"


@pytest.fixture
def fresh(acme: TenantState, monkeypatch: pytest.MonkeyPatch) -> Iterator[TenantState]:
    """Acme, in a process that remembers no keys and no tokens: what a test stores is undone after it."""
    with tenancy.in_platform():
        SigningKey.objects.all().delete()  # other tests' processes have made some
    # RSA keys take long to make: each test has the same ones, in turn.
    made = count()
    monkeypatch.setattr(signing_keys, "_new_secret", lambda: pair("RS256", f"ours-{next(made) % 6}").secret)
    for forget in (signing_keys.forget, tokens.forget, key_sets.forget):
        forget()
    yield acme
    for forget in (signing_keys.forget, tokens.forget, key_sets.forget):
        forget()


def shown(token: str, named: str | None = None, host: TenantState | None = None) -> Principal:
    """Who comes with a token."""
    return with_keys(lambda: authentication.bearer(f"Bearer {token}", named, host))


def refusal(token: str, named: str | None = None, host: TenantState | None = None) -> tuple[Code, str]:
    """The code and the words with which a token is refused."""
    with pytest.raises(Problem) as caught:
        shown(token, named, host)
    return caught.value.code, caught.value.detail


def unwanted(token: str) -> str:
    """The words with which a token is refused as no credential at all."""
    code, why = refusal(token)
    assert code is Code.NOT_AUTHENTICATED, (code, why)
    return why


def age(state: str, by: timedelta) -> None:
    """Have the time pass for the signing keys of a state."""
    with tenancy.in_platform():
        for key in SigningKey.objects.filter(state=state):
            key.published_at -= by
            key.replaced_at = key.replaced_at and key.replaced_at - by
            key.save(update_fields=["published_at", "replaced_at"])


def soon() -> timedelta:
    """A little more than a key has to be published before it signs."""
    return signing_keys.PUBLISHED_FOR + timedelta(seconds=1)


def now() -> int:
    return int(timezone.now().timestamp())


def register(tenant: TenantState, key: Pair | None = None, **more: Any) -> TokenIssuer:
    """A shop's backend with this one key."""
    values = {"name": "shop", "issuer": SHOP, "public_key": key.pem if key else "", **more}
    return token_issuers.register(tenant.ref, **values)


def ticket_of(key: Pair, sub: str = "ada", tenant: str = "acme", **more: Any) -> str:
    return signed(key, SHOP, tenant, sub, **more)


def contact_of(tenant: TenantState, external_id: str) -> Contact:
    with tenancy.in_tenant(tenant.ref):
        return Contact.objects.get(external_id=external_id)
