"""Members of a tenant: invited, joined, given another role, disabled; and what happens at the sign-in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib.auth.hashers import check_password, make_password
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone

from chatplatform import jobs, tenancy
from chatplatform.api.problem import Code, Problem, invalid
from chatplatform.observability.context import acting
from chatplatform.postgres.models import uuid7
from chatplatform.tenancy import TenantRef
from tenants import audit
from tenants.auth.passwords import Tries, forget_tries
from tenants.models import MemberSession, Membership, SecondFactor, Tenant, User
from tenants.services import member_links, member_sessions, second_factors
from tenants.services.member_links import Link
from tenants.vocabulary import ActorKind, AuditAction, MemberRole, MemberState

SEND_LINK = "tenants.send_member_link"
WRONG = "The e-mail address or the password is wrong."


# --- Signing in ----------------------------------------------------------------------------------------------------
def sign_in(tenant: TenantRef, email: str, password: str, *, agent: str) -> str:
    """The token of a new session. Raises Problem (`rate_limited`, `not_authenticated`), saying no more than that."""
    email = normalised(email)
    tries = Tries(tenant.id, email)
    tries.take()
    with tenancy.in_platform():
        membership = _members(tenant).filter(email=email).first()
        if membership is None or membership.state is not MemberState.JOINED:
            make_password(password)  # so that it takes as long as with somebody who is there
            right = False
        else:
            right = _is_password(membership.user, password)
    if membership is None or not right:
        # People type passwords into the wrong field: what was typed is kept as a digest.
        audit.record(
            AuditAction.MEMBER_SIGN_IN_FAILED,
            membership.pk if membership else "",
            tenant=tenant.id,
            actor=(ActorKind.NOBODY, ""),
            typed=audit.digest(email),
        )
        raise Problem(Code.NOT_AUTHENTICATED, WRONG)
    tries.succeeded()
    return member_sessions.start(membership, agent=agent)


def change_password(session: MemberSession, old: str, new: str) -> None:
    """Another password for who is signed in; all other sessions end. Raises Problem, ValidationError."""
    with tenancy.in_platform():
        membership = Membership.objects.select_related("user").get(pk=session.membership_id)
        tries = Tries(membership.tenant_id, membership.email)
        tries.take()
        if not _is_password(membership.user, old):
            raise invalid("old", "This is not your password.")
        tries.succeeded()
        with transaction.atomic():
            _set_password(membership, new)
            member_sessions.end_all(membership, but=session)


# --- Links by mail -------------------------------------------------------------------------------------------------
def ask_for_reset(tenant: TenantRef, email: str) -> None:
    """Mail a link for another password, if there is such a member: the answer is the same. Raises Problem."""
    email = normalised(email)
    Tries(tenant.id, f"reset:{email}").take()
    with tenancy.in_platform():
        membership = _members(tenant).filter(email=email).first()
    known = membership is not None and membership.state is MemberState.JOINED
    jobs.enqueue_on_commit(SEND_LINK, str(Link.RESET), str(membership.pk) if membership and known else "")


def of_link(kind: Link, tenant: TenantRef, token: str, *, lock: bool = False) -> Membership:
    """Whom a link is for. Raises Problem `not_found` if it is not good any more."""
    membership_id, fingerprint = member_links.named(kind, tenant, token)
    with tenancy.in_platform():
        found = _members(tenant).filter(pk=membership_id)
        membership = (found.select_for_update(of=("self", "user")) if lock else found).first()
    if membership is None or not member_links.is_good(kind, membership, fingerprint):
        raise member_links.void()
    return membership


def follow_link(kind: Link, tenant: TenantRef, token: str, password: str) -> Membership:
    """Set the password of whom a link is for, this once; who was invited joins. Raises Problem, ValidationError."""
    with tenancy.in_platform(), transaction.atomic():
        # Locked, the account too: of two who follow it at once, the second finds it used.
        membership = of_link(kind, tenant, token, lock=True)
        with acting(lambda: (ActorKind.MEMBER, str(membership.pk))):
            _set_password(membership, password)
            if membership.joined_at is None:
                join(membership)
            member_sessions.end_all(membership)
        forget_tries(tenant.id, membership.email)
    return membership


# --- Who is a member -----------------------------------------------------------------------------------------------
def invite(tenant: TenantRef, email: str, role: str, *, by: str) -> Membership:
    """A new member, who gets a link by mail. Raises Problem (fields `email`, `role`)."""
    email = normalised(email)
    try:
        validate_email(email)
    except ValidationError as error:
        raise invalid("email", "An e-mail address such as name@example.com.") from error
    _check_role(role)
    try:
        with tenancy.in_platform(), transaction.atomic():
            membership = create(tenant, email, role, by=by)
            _send_invitation(membership)
    except IntegrityError as error:
        raise invalid("email", f"{email} is a member already.") from error
    return membership


def create(tenant: TenantRef, email: str, role: str, *, by: str) -> Membership:
    """A membership with an account of its own, not joined yet. Raises IntegrityError if the address is taken."""
    # The name is nobody's business: people sign in by address, and at their tenant only.
    user = User(username=f"member-{uuid7().hex}", email=email)
    user.set_unusable_password()
    User.objects.bulk_create([user])  # not save(): that would be recorded as an account of staff
    return Membership.objects.create(
        tenant_id=tenant.id, user=user, email=email, role=role, invited_by=by[:254]
    )


def join(membership: Membership) -> None:
    """Who was invited, or admitted, is a member from now on."""
    membership.joined_at = timezone.now()
    membership.save(update_fields=["joined_at"])
    audit.record(AuditAction.MEMBER_JOINED, membership.pk, tenant=membership.tenant_id)


def count_invitation(tenant: TenantRef) -> None:
    """Before members have a mail sent to an address of their choice. Raises Problem `rate_limited`."""
    Tries(tenant.id, "invitations").take()


def invite_again(membership: Membership) -> None:
    """Another link for who has not joined; the one before is void. Raises Problem."""
    if membership.state is not MemberState.INVITED:
        raise Problem(
            Code.INVALID_REQUEST, f"{membership.email} is not waiting for an invitation.", errors=[]
        )
    with tenancy.in_platform(), transaction.atomic():
        User.objects.filter(pk=membership.user_id).update(password=make_password(None))
        Membership.objects.filter(pk=membership.pk).update(invited_at=timezone.now())
        _send_invitation(membership)


def _send_invitation(membership: Membership) -> None:
    _record(AuditAction.MEMBER_INVITED, membership, role=membership.role)
    # A worker mails the link and makes it itself, so that no link passes through the broker.
    jobs.enqueue_on_commit(SEND_LINK, str(Link.JOIN), str(membership.pk))


def change_role(membership: Membership, role: str) -> None:
    """Another role, in force with the member's next request. Raises Problem (field `role`)."""
    _check_role(role)
    with _owners_kept(membership, leaves=role != MemberRole.OWNER):
        Membership.objects.filter(pk=membership.pk).update(role=role)
        _record(AuditAction.MEMBER_ROLE_CHANGED, membership, roles=[membership.role, role])


def disable(membership: Membership) -> None:
    """Shut a member out, at once and everywhere; what they did stays theirs. Raises Problem."""
    with _owners_kept(membership, leaves=True):
        Membership.objects.filter(pk=membership.pk, disabled_at=None).update(disabled_at=timezone.now())
        _record(AuditAction.MEMBER_DISABLED, membership)
        member_sessions.end_all(membership)


def enable(membership: Membership) -> None:
    """Let a disabled member in again."""
    with tenancy.in_platform(), transaction.atomic():
        Membership.objects.filter(pk=membership.pk).update(disabled_at=None)
        _record(AuditAction.MEMBER_ENABLED, membership)


def reset_factors(membership: Membership) -> None:
    """Take the second factors from a member who has lost them, and end their sessions."""
    with tenancy.in_platform(), transaction.atomic():
        second_factors.reset(second_factors.of_member(membership))
        member_sessions.end_all(membership)


def forget_accounts(tenant: TenantRef) -> None:
    """Delete the accounts of a tenant that is being erased; its memberships go with it."""
    with tenancy.in_platform(), transaction.atomic():
        accounts = list(Membership.objects.filter(tenant_id=tenant.id).values_list("user_id", flat=True))
        Membership.objects.filter(tenant_id=tenant.id).delete()
        SecondFactor.objects.filter(user_id__in=accounts).delete()
        gone = User.objects.filter(pk__in=accounts)
        gone._raw_delete(gone.db)  # not delete(): that would be recorded as accounts of staff


def normalised(email: str) -> str:
    """An address as it is kept and compared."""
    return email.strip().lower().replace("\0", "")[:254]


def _members(tenant: TenantRef) -> QuerySet[Membership]:
    return Membership.objects.select_related("user", "tenant").filter(tenant_id=tenant.id)


def _record(action: AuditAction, membership: Membership, **data: Any) -> None:
    audit.record(action, membership.pk, tenant=membership.tenant_id, **data)


def _is_password(user: User, password: str) -> bool:
    """Whether it is; a hash that is older than our ways is made anew."""
    return check_password(password, user.password, lambda raw: _store(user, raw))


def _set_password(membership: Membership, password: str) -> None:
    validate_password(password, membership.user)
    _store(membership.user, password)
    _record(AuditAction.MEMBER_PASSWORD_CHANGED, membership)


def _store(user: User, password: str) -> None:
    user.set_password(password)
    User.objects.filter(pk=user.pk).update(password=user.password)


def _check_role(role: str) -> None:
    if role not in MemberRole.values:
        raise invalid("role", f"One of {', '.join(MemberRole.values)}.")


@contextmanager
def _owners_kept(membership: Membership, *, leaves: bool) -> Iterator[None]:
    """A change after which the tenant still has an owner who can sign in. Raises Problem (field `role`)."""
    with tenancy.in_platform(), transaction.atomic():
        Tenant.objects.select_for_update().get(
            pk=membership.tenant_id
        )  # two owners may do this to each other at once
        owners = Membership.objects.filter(
            tenant_id=membership.tenant_id, role=MemberRole.OWNER, disabled_at=None, joined_at__isnull=False
        )
        if leaves and list(owners.values_list("pk", flat=True)) == [membership.pk]:
            raise invalid("role", "This is the last owner: make somebody else an owner first.")
        yield
