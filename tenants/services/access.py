"""The only ways to what belongs to a tenant's people, for who is signed in to the console: what is not theirs is not
found, what their role does not allow is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from chatplatform import tenancy
from chatplatform.api.problem import Code, Problem
from tenants.auth.members import Member
from tenants.models import MemberIdentity, MemberSession, Membership, SecondFactor, SignInProvider
from tenants.services import member_sessions, sign_in_providers
from tenants.vocabulary import Action, FactorKind, MemberRole

NO_MEMBER = "There is no such member."


def access_action(member: Member, action: Action) -> None:
    """Go on if the role allows it. Raises Problem `not_allowed`."""
    if not member.may(action):
        raise Problem(Code.NOT_ALLOWED, f"Your role does not allow this: {action.label.lower()}.")


def access_members(member: Member) -> Sequence[Membership]:
    """All members of the tenant, whatever their state. Raises Problem."""
    access_action(member, Action.VIEW_MEMBERS)
    with tenancy.in_platform():
        return list(Membership.objects.filter(tenant_id=member.tenant.ref.id))


def access_member(member: Member, membership_id: UUID) -> Membership:
    """A member whom the caller may change. Owners are changed by owners, and nobody by themselves. Raises Problem."""
    access_action(member, Action.MANAGE_MEMBERS)
    with tenancy.in_platform():
        found = (
            Membership.objects.select_related("tenant", "user")
            .filter(pk=membership_id, tenant_id=member.tenant.ref.id)
            .first()
        )
    if found is None:
        raise Problem(Code.NOT_FOUND, NO_MEMBER)
    if found.pk == member.membership_id:
        raise Problem(Code.NOT_ALLOWED, "Somebody else has to change your own membership.")
    if found.role == MemberRole.OWNER:
        access_action(member, Action.MANAGE_OWNERS)
    return found


def access_role(member: Member, role: str) -> str:
    """A role that the caller may give. Raises Problem."""
    access_action(member, Action.MANAGE_OWNERS if role == MemberRole.OWNER else Action.MANAGE_MEMBERS)
    return role


def access_sessions(member: Member) -> Sequence[MemberSession]:
    """The caller's own sessions, the latest seen first."""
    with tenancy.in_platform():
        return list(MemberSession.objects.filter(membership_id=member.membership_id))


def access_session(member: Member, session_id: UUID) -> MemberSession:
    """One of the caller's own sessions. Raises Problem `not_found`."""
    with tenancy.in_platform():
        own = MemberSession.objects.select_related("membership").filter(membership_id=member.membership_id)
        found = own.filter(pk=session_id).first()
    if found is None:
        raise Problem(Code.NOT_FOUND, "There is no such session.")
    return found


def access_factors(member: Member) -> Sequence[SecondFactor]:
    """The caller's own second factors, without the recovery codes."""
    with tenancy.in_platform():
        own = SecondFactor.objects.filter(user__membership=member.membership_id)
        return list(own.exclude(kind=FactorKind.CODE))


def is_recent(member: Member) -> bool:
    """Whether the caller has shown who they are a short while ago."""
    return member_sessions.is_recent(access_session(member, member.session_id))


def access_identity(member: Member, provider_id: UUID) -> MemberIdentity:
    """The caller's own account at a provider. Raises Problem `not_found`."""
    found = sign_in_providers.accounts(member.membership_id).get(provider_id)
    if found is None:
        raise Problem(Code.NOT_FOUND, "You have no account there.")
    return found


def access_providers(member: Member) -> Sequence[SignInProvider]:
    """The tenant's sign-in providers. Raises Problem."""
    access_action(member, Action.MANAGE_SIGN_IN)
    return sign_in_providers.of_tenant(member.tenant.ref)


def access_provider(member: Member, provider_id: UUID) -> SignInProvider:
    """One of them. Raises Problem."""
    access_action(member, Action.MANAGE_SIGN_IN)
    return sign_in_providers.one(member.tenant.ref, provider_id)


def access_ways_in(member: Member) -> Sequence[tuple[SignInProvider, MemberIdentity | None]]:
    """The tenant's providers, each with the caller's own account there."""
    own = sign_in_providers.accounts(member.membership_id)
    return [(one, own.get(one.pk)) for one in sign_in_providers.of_tenant(member.tenant.ref)]
