"""A tenant's OpenID providers: registered by its owners, and whom they may let in.

An account elsewhere is bound to a member by issuer and subject, at one tenant. An address decides only who may join: it
has to be verified, and invited or on the provider's list. It never lets anybody in as a member who has joined already.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.core.validators import validate_domain_name, validate_email
from django.db import IntegrityError, transaction
from django.utils import timezone

from chatplatform import tenancy
from chatplatform.api.fields import one_line
from chatplatform.api.problem import Code, Problem, invalid
from chatplatform.observability.context import acting
from chatplatform.tenancy import TenantRef
from tenants import audit, selectors
from tenants.models import MemberIdentity, Membership, SignInProvider, Tenant
from tenants.services import member_sessions, members, oidc
from tenants.services.member_links import LIFETIMES, Link
from tenants.services.oidc import Person, ProviderFailed
from tenants.vocabulary import ActorKind, AuditAction, Feature, MemberRole, MemberState

MOST = 10  # providers of one tenant
MOST_ADMITTED = 200
UNKNOWN = (
    "This account stands for no member here. Who is a member already signs in with the password once, and links it "
    "under Your account; everybody else needs an invitation."
)
TAKEN = "This account stands for another member already."


# --- Which there are -------------------------------------------------------------------------------------------------
def of_tenant(tenant: TenantRef) -> Sequence[SignInProvider]:
    """All of a tenant's providers, by name."""
    with tenancy.in_platform():
        return list(SignInProvider.objects.filter(tenant_id=tenant.id))


def one(tenant: TenantRef, provider_id: UUID) -> SignInProvider:
    """A provider of this tenant. Raises Problem `not_found`."""
    with tenancy.in_platform():
        found = SignInProvider.objects.filter(tenant_id=tenant.id, pk=provider_id).first()
    if found is None:
        raise Problem(Code.NOT_FOUND, "There is no such sign-in provider.")
    return found


def save(
    tenant: TenantRef,
    *,
    name: str,
    issuer: str,
    client_id: str,
    client_secret: str,
    admitted: str,
    role: str,
    asks_second_factor: bool,
    provider: SignInProvider | None = None,
) -> SignInProvider:
    """Add a provider, or change one: without a secret it keeps the one it has, and its issuer stays. `admitted` are
    addresses and `@domains`, one a line. Raises Problem, naming the field; `not_allowed` if it is to be added and the
    plan does not include it.
    """
    if provider is None:
        selectors.check_included(tenant.id, Feature.SINGLE_SIGN_ON)
    row = provider or SignInProvider(tenant_id=tenant.id, issuer=issuer.strip())
    row.name, row.client_id = _line("name", name), _line("client_id", client_id)
    row.client_secret = client_secret or (provider.client_secret if provider else "")
    row.admitted, row.role, row.asks_second_factor = _admitted(admitted), role, asks_second_factor
    if role not in MemberRole.values or role == MemberRole.OWNER:
        raise invalid("role", "A role below owner.")
    try:
        oidc.endpoints(row.issuer, anew=True)
    except ProviderFailed as error:
        raise invalid("issuer", str(error)) from error
    try:
        with tenancy.in_platform(), transaction.atomic():
            if provider is None and SignInProvider.objects.filter(tenant_id=tenant.id).count() >= MOST:
                raise invalid("name", f"A tenant has at most {MOST} providers.")
            row.save()
            said: dict[str, Any] = {"issuer": row.issuer, "role": row.role, "admitted": len(row.admitted)}
            action = AuditAction.PROVIDER_CHANGED if provider else AuditAction.PROVIDER_ADDED
            audit.record(action, row.pk, tenant=tenant.id, asks_second_factor=asks_second_factor, **said)
    except IntegrityError as error:
        raise invalid("name", "There is a provider of this name, or of this issuer, already.") from error
    return row


def remove(provider: SignInProvider) -> None:
    """Trust it no more: what it began ends, and who has no password gets one by mail."""
    with tenancy.in_platform(), transaction.atomic():
        SignInProvider.objects.filter(pk=provider.pk).delete()
        audit.record(
            AuditAction.PROVIDER_REMOVED, provider.pk, tenant=provider.tenant_id, issuer=provider.issuer
        )


def need_second_factor(tenant: TenantRef, needed: bool) -> None:
    """Whether members need a second factor, in force with their next request."""
    with tenancy.in_platform(), transaction.atomic():
        changed = Tenant.objects.filter(pk=tenant.id).exclude(needs_second_factor=needed)
        if changed.update(needs_second_factor=needed):
            audit.record(AuditAction.SECOND_FACTOR_NEEDED, tenant.id, tenant=tenant.id, needed=needed)


def needs_second_factor(tenant: TenantRef) -> bool:
    """Whether they do."""
    with tenancy.in_platform():
        return Tenant.objects.filter(pk=tenant.id, needs_second_factor=True).exists()


# --- Whom they let in ------------------------------------------------------------------------------------------------
def sign_in(provider: SignInProvider, person: Person, *, agent: str) -> str:
    """The token of a new session of whom the provider vouches for; who may join does. Raises Problem."""
    with tenancy.in_platform():
        try:
            with transaction.atomic():
                membership = _known(provider, person) or _joining(provider, person)
        except IntegrityError:  # twice at the same moment
            membership = _known(provider, person)
        if membership is None:
            audit.record(
                AuditAction.MEMBER_SIGN_IN_FAILED,
                tenant=provider.tenant_id,
                actor=(ActorKind.NOBODY, ""),
                provider=str(provider.pk),
                typed=audit.digest(f"{person.issuer} {person.subject}"),
            )
            raise Problem(Code.NOT_AUTHENTICATED, UNKNOWN)
    return member_sessions.start(membership, agent=agent, provider=provider)


def link(membership_id: UUID, provider: SignInProvider, person: Person) -> None:
    """Let an account elsewhere stand for a member who is signed in. Raises Problem."""
    try:
        with tenancy.in_platform(), transaction.atomic():
            _bind(Membership.objects.get(pk=membership_id), provider, person)
    except IntegrityError as error:
        raise Problem(Code.NOT_ALLOWED, TAKEN) from error


def unlink(identity: MemberIdentity) -> None:
    """Let it stand for the member no more."""
    with tenancy.in_platform(), transaction.atomic():
        MemberIdentity.objects.filter(pk=identity.pk).delete()
        audit.record(
            AuditAction.MEMBER_UNLINKED,
            identity.membership_id,
            tenant=identity.tenant_id,
            provider=str(identity.provider_id),
        )


def _known(provider: SignInProvider, person: Person) -> Membership | None:
    """Whom the account stands for, if they may sign in."""
    found = Membership.objects.filter(
        identities__tenant_id=provider.tenant_id,
        identities__issuer=person.issuer,
        identities__subject=person.subject,
        joined_at__isnull=False,
        disabled_at=None,
    )
    return found.first()


def _joining(provider: SignInProvider, person: Person) -> Membership | None:
    """The member that somebody new becomes, if they may: invited a short while ago, or on the list."""
    email = members.normalised(person.email)
    if not email:
        return None
    there = Membership.objects.select_for_update().filter(tenant_id=provider.tenant_id, email=email)
    membership = there.first()
    if membership is not None:
        invited = membership.state is MemberState.INVITED
        if not invited or membership.invited_at < timezone.now() - LIFETIMES[Link.JOIN]:
            return None
    elif email in provider.admitted or f"@{email.rpartition('@')[2]}" in provider.admitted:
        tenant = Tenant.objects.get(pk=provider.tenant_id)
        membership = members.create(tenant.ref, email, provider.role, by=provider.name)
    else:
        return None
    with acting(lambda: (ActorKind.MEMBER, str(membership.pk))):
        members.join(membership)
        _bind(membership, provider, person)
    return membership


def _bind(membership: Membership, provider: SignInProvider, person: Person) -> None:
    MemberIdentity.objects.create(
        tenant_id=provider.tenant_id,
        membership=membership,
        provider=provider,
        issuer=person.issuer,
        subject=person.subject,
    )
    audit.record(
        AuditAction.MEMBER_LINKED, membership.pk, tenant=provider.tenant_id, provider=str(provider.pk)
    )


def _line(field: str, text: str) -> str:
    text = one_line(field, text.strip())
    if not text:
        raise invalid(field, "Must not be empty.")
    return text


def _admitted(text: str) -> list[str]:
    found = sorted({one.strip().lower() for one in text.splitlines() if one.strip()})
    if len(found) > MOST_ADMITTED:
        raise invalid("admitted", f"At most {MOST_ADMITTED} lines.")
    for entry in found:
        try:
            # All of a domain, or one address.
            validate_domain_name(entry[1:]) if entry.startswith("@") else validate_email(entry)
        except ValidationError as error:
            raise invalid("admitted", f"{entry!r} is neither an address nor an @domain.") from error
    return found


def accounts(membership_id: UUID) -> dict[UUID, MemberIdentity]:
    """A member's accounts elsewhere, by the provider's id."""
    with tenancy.in_platform():
        return {one.provider_id: one for one in MemberIdentity.objects.filter(membership_id=membership_id)}
