"""A tenant's own backends, whose tokens for its end users are taken: registered, removed, and known to each request."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from uuid import UUID

from cachetools import TTLCache
from django.conf import settings
from django.db import IntegrityError, transaction

from chatplatform import outbound, tenancy
from chatplatform.api.fields import one_line
from chatplatform.api.problem import invalid
from chatplatform.tenancy import TenantRef
from tenants import audit, control
from tenants.models import TokenIssuer
from tenants.selectors import FRESH_SECONDS
from tenants.services import key_sets, public_keys
from tenants.services.public_keys import NotAKey, PublicKey
from tenants.vocabulary import AuditAction

MOST = 10  # issuers of one tenant: were all of them slow, their fetches still leave room for others


@dataclass(frozen=True, slots=True)
class Issuer:
    """A registered issuer as a request sees it."""

    id: UUID
    tenant_id: UUID
    issuer: str
    jwks_url: str
    own_keys: tuple[PublicKey, ...]

    @property
    def thing(self) -> str:
        """What the tokens of this issuer rest on; see `tenants.auth.standing`."""
        return f"issuer:{self.tenant_id}/{self.id}"

    def keys(self, kid: str | None) -> tuple[PublicKey, ...]:
        """The keys a token may be checked with. Raises NoKeys, or KeysAwaited while they are fetched."""
        return key_sets.keys(self.id, self.jwks_url, kid) if self.jwks_url else self.own_keys


_kept: TTLCache[UUID, tuple[Issuer, ...]] = TTLCache(10_000, FRESH_SECONDS)
_lock = Lock()


def register(
    tenant: TenantRef, name: str, issuer: str, *, jwks_url: str = "", public_key: str = ""
) -> TokenIssuer:
    """Take the tokens that say they are from `issuer`, signed with one of these keys (PEM, JWK or JWKS) or with one
    that is published at `jwks_url`. In force everywhere within 5 seconds.

    Raises Problem, naming the field.
    """
    for field, text in (("name", name), ("issuer", issuer)):
        if not one_line(field, text).strip():
            raise invalid(field, "Must not be empty.")
    if issuer == settings.TOKEN_ISSUER:
        raise invalid("issuer", "This is the platform itself.")
    if bool(jwks_url) == bool(public_key):
        raise invalid("jwks_url", "Either the address of a JWKS document or a public key.")
    jwks = _own_keys(public_key) if public_key else []
    if jwks_url:
        _check_address(jwks_url)
    row = TokenIssuer(tenant_id=tenant.id, name=name, issuer=issuer, jwks_url=jwks_url, public_keys=jwks)
    try:
        with tenancy.in_platform(), transaction.atomic():
            if TokenIssuer.objects.filter(tenant_id=tenant.id).count() >= MOST:
                raise invalid("name", f"A tenant has at most {MOST} issuers.")
            row.save()
            audit.record(
                AuditAction.ISSUER_REGISTERED, row.id, tenant=tenant.id, issuer=issuer, jwks_url=jwks_url
            )
    except IntegrityError as error:
        raise invalid("name", "There is an issuer of this name already.") from error
    control.tenant_changed(tenant.id)
    return row


def remove(tenant: TenantRef, issuer_id: UUID) -> TokenIssuer:
    """Take no more tokens of an issuer, everywhere within 5 seconds. Raises TokenIssuer.DoesNotExist."""
    with tenancy.in_platform(), transaction.atomic():
        row = TokenIssuer.objects.get(id=issuer_id, tenant_id=tenant.id)
        TokenIssuer.objects.filter(id=row.id).delete()
        audit.record(AuditAction.ISSUER_REMOVED, row.id, tenant=tenant.id, issuer=row.issuer)
    control.tenant_changed(tenant.id)
    return row


def of_tenant(tenant_id: UUID) -> tuple[Issuer, ...]:
    """The issuers of a tenant."""
    with _lock:
        if (kept := _kept.get(tenant_id)) is not None:
            return kept
    with tenancy.in_platform():
        rows = list(TokenIssuer.objects.filter(tenant_id=tenant_id))
    found = tuple(_issuer(row) for row in rows)
    with _lock:
        _kept[tenant_id] = found
    return found


def is_registered(thing: str) -> bool:
    """Whether the issuer of this `thing`, without its kind, is still there."""
    tenant_id, _, issuer_id = thing.partition("/")
    return any(str(one.id) == issuer_id for one in of_tenant(UUID(tenant_id)))


def forget(tenant_id: UUID) -> None:
    """Drop what is kept of a tenant's issuers."""
    with _lock:
        _kept.pop(tenant_id, None)


def _issuer(row: TokenIssuer) -> Issuer:
    keys = tuple(public_keys.from_jwk(jwk) for jwk in row.public_keys)
    return Issuer(row.id, row.tenant_id, row.issuer, row.jwks_url, keys)


def _own_keys(text: str) -> list[dict[str, str]]:
    try:
        return public_keys.as_jwks(text)
    except NotAKey as error:
        raise invalid("public_key", str(error)) from error


def _check_address(url: str) -> None:
    """Fetched once now: whoever registers it hears what is wrong with it."""
    try:
        keys = key_sets.read(url)
    except (outbound.FetchFailed, NotAKey) as error:
        raise invalid("jwks_url", str(error)) from error
    if not keys:
        raise invalid("jwks_url", "There is no key in it that can be used: RSA, EC on P-256 or Ed25519.")
