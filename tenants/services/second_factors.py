"""Second factors: codes of an app, passkeys, recovery codes; the same for members and for staff.

Nothing is taken twice: the counters in the table only grow, and a recovery code is deleted as it is used.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pyotp
import segno
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from fido2.server import Fido2Server
from fido2.webauthn import (
    AttestedCredentialData,
    AuthenticationResponse,
    PublicKeyCredentialRpEntity,
    PublicKeyCredentialUserEntity,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from chatplatform import tenancy
from chatplatform.api.problem import Code, Problem, invalid
from tenants import audit
from tenants.auth.passwords import Tries
from tenants.models import Membership, SecondFactor, Tenant, User
from tenants.vocabulary import ActorKind, AuditAction, FactorKind

STEP = 30  # s that a code of an app is for
STEPS_OFF = 1  # that the clock of a phone may be off, either way
CODES = 10
MOST = 20  # of one account
LETTERS = "23456789abcdefghjkmnpqrstuvwxyz"  # none that look alike
WRONG = "This code is wrong, or was used already."
NO_PASSKEY = "The passkey was not taken. Try again."


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose second factors they are: a member's account at its tenant, or one of staff."""

    user_id: UUID
    name: str  # what the person signs in with
    thing: UUID  # what the audit log knows them by
    tenant_id: UUID | None = None
    needed: bool = False

    @property
    def kind(self) -> ActorKind:
        return ActorKind.MEMBER if self.tenant_id else ActorKind.STAFF

    def record(self, deed: str, **data: Any) -> None:
        """Write into the audit log what was done by whom, in the context's words."""
        audit.record(AuditAction(f"{self.kind}.{deed}"), self.thing, tenant=self.tenant_id, **data)

    def record_proof(self, deed: str, **data: Any) -> None:
        """The same of somebody who is not signed in yet: at the end of it, that is the holder."""
        self.record(deed, **data, actor=(self.kind, str(self.thing)))


def of_member(membership: Membership) -> Holder:
    """A member, loaded with the tenant."""
    tenant: Tenant = membership.tenant
    return Holder(membership.user_id, membership.email, membership.pk, tenant.pk, tenant.needs_second_factor)


def of_staff(user: User) -> Holder:
    """One of our own people."""
    return Holder(user.pk, user.username, user.pk, needed=settings.STAFF_NEED_SECOND_FACTOR)


def listed(holder: Holder) -> Sequence[SecondFactor]:
    """All of them, recovery codes too, the oldest first."""
    with tenancy.in_platform():
        return list(SecondFactor.objects.filter(user_id=holder.user_id))


def has_any(holder: Holder) -> bool:
    """Whether there is one to be asked for. Recovery codes are none: they stand in for one that is lost."""
    with tenancy.in_platform():
        return bool(_real(holder).exists())


# --- Codes of an app -------------------------------------------------------------------------------------------------
def new_secret() -> str:
    """160 random bits in base32."""
    return pyotp.random_base32()


def picture(holder: Holder, secret: str, issuer: str) -> str:
    """A QR code (SVG) by which an app takes the secret in."""
    uri = pyotp.TOTP(secret).provisioning_uri(name=holder.name, issuer_name=issuer)
    return str(segno.make(uri, micro=False).svg_inline(scale=4, border=3, light="#fff", title="QR code"))


def add_app(holder: Holder, name: str, secret: str, code: str) -> Sequence[str]:
    """Take in an app that shows the right code; what is answered is as in `_added`. Raises Problem."""
    tries = _tries(holder)
    tries.take()
    step = _step(secret, code)
    if step is None:
        raise invalid("code", "This code is wrong. Is the phone’s clock right?")
    tries.succeeded()
    return _add(holder, SecondFactor(kind=FactorKind.APP, name=name, secret=secret, counter=step))


def _step(secret: str, code: str) -> int | None:
    """For which 30 s an app shows this code, if they are near."""
    code, now = code.replace(" ", ""), int(time.time()) // STEP
    totp = pyotp.TOTP(secret, interval=STEP)
    near = range(now - STEPS_OFF, now + STEPS_OFF + 1)
    # Every one is compared, whichever is right.
    right = [step for step in near if constant_time_compare(totp.at(step * STEP), code)]
    return right[-1] if right else None


# --- Passkeys --------------------------------------------------------------------------------------------------------
def ask_to_add(holder: Holder, origin: str) -> tuple[dict[str, Any], Any]:
    """What a browser is told to make a passkey, and what has to be kept until it answers."""
    there = [_credential(one) for one in listed(holder) if _is_passkey(one, origin)]
    user = PublicKeyCredentialUserEntity(id=holder.user_id.bytes, name=holder.name, display_name=holder.name)
    options, state = _server(origin).register_begin(
        user, there, ResidentKeyRequirement.DISCOURAGED, UserVerificationRequirement.PREFERRED
    )
    return dict(options), state


def add_passkey(holder: Holder, name: str, origin: str, state: Any, answer: Any) -> Sequence[str]:
    """Take in a passkey that answers what it was asked; what is answered is as in `_added`. Raises Problem."""
    try:
        made = _server(origin).register_complete(_checked(state), answer)
    except Exception as error:  # bytes of a stranger: the library raises many kinds
        raise Problem(Code.INVALID_REQUEST, NO_PASSKEY) from error
    kept = base64.b64encode(bytes(made.credential_data or b"")).decode()
    host = _host(origin)
    return _add(
        holder,
        SecondFactor(kind=FactorKind.PASSKEY, name=name, secret=kept, host=host, counter=made.counter),
    )


def ask_to_prove(holder: Holder, origin: str) -> tuple[dict[str, Any], Any] | None:
    """What a browser is told to use a passkey that was made at this host, if there is one."""
    there = [_credential(one) for one in listed(holder) if _is_passkey(one, origin)]
    if not there:
        return None
    options, state = _server(origin).authenticate_begin(there, UserVerificationRequirement.PREFERRED)
    return dict(options), state


def prove_by_passkey(holder: Holder, origin: str, state: Any, answer: Any) -> None:
    """Go on if a passkey of theirs answers what it was asked. Raises Problem."""
    tries = _tries(holder)
    tries.take()
    found = {_credential(one).credential_id: one for one in listed(holder) if _is_passkey(one, origin)}
    try:
        used = _server(origin).authenticate_complete(
            _checked(state), [_credential(one) for one in found.values()], answer
        )
        counter = AuthenticationResponse.from_dict(answer).response.authenticator_data.counter
    except Exception as error:  # as above
        raise _refused(holder, NO_PASSKEY) from error
    factor = found[used.credential_id]
    # One that counts and has not counted further is a copy. Those that are kept in a cloud do not count.
    if (counter or factor.counter) and not _advanced(factor, counter):
        raise _refused(holder, NO_PASSKEY)
    _proved(holder, factor, tries)


def _server(origin: str) -> Fido2Server:
    host = _host(origin)
    entity = PublicKeyCredentialRpEntity(name=host, id=host)
    return Fido2Server(entity, verify_origin=lambda said: said == origin)


def _host(origin: str) -> str:
    return urlsplit(origin).hostname or ""


def _is_passkey(factor: SecondFactor, origin: str) -> bool:
    return factor.kind == FactorKind.PASSKEY and factor.host == _host(origin)


def _credential(factor: SecondFactor) -> AttestedCredentialData:
    return AttestedCredentialData(base64.b64decode(factor.secret))


def _checked(state: Any) -> Any:
    if not state:
        raise ValueError("nothing was asked, or it was answered already")
    return state


# --- Codes that are typed --------------------------------------------------------------------------------------------
def prove_by_code(holder: Holder, code: str) -> None:
    """Go on if it is a code of an app of theirs, or a recovery code. Raises Problem."""
    tries = _tries(holder)
    tries.take()
    for factor in listed(holder):
        if factor.kind == FactorKind.APP:
            step = _step(factor.secret, code)
            right = step is not None and _advanced(factor, step)
        else:
            right = factor.kind == FactorKind.CODE and constant_time_compare(factor.secret, _hash(code))
            right = right and _deleted(factor)
        if right:
            return _proved(holder, factor, tries)
    raise _refused(holder, WRONG)


def new_codes(holder: Holder) -> Sequence[str]:
    """Other recovery codes, seen this once; the ones before are void."""
    codes = ["-".join(_letters(5) for _ in range(2)) for _ in range(CODES)]
    with tenancy.in_platform(), transaction.atomic():
        SecondFactor.objects.filter(user_id=holder.user_id, kind=FactorKind.CODE).delete()
        SecondFactor.objects.bulk_create(
            SecondFactor(user_id=holder.user_id, kind=FactorKind.CODE, secret=_hash(code)) for code in codes
        )
        holder.record("codes_made")
    return codes


def _letters(number: int) -> str:
    return "".join(secrets.choice(LETTERS) for _ in range(number))


def _hash(code: str) -> str:
    # 49 random bits behind a limit of tries, and sealed besides: a fast hash does.
    plain = "".join(letter for letter in code.lower() if letter in LETTERS)
    return hashlib.sha256(plain.encode()).hexdigest()


# --- All of them -----------------------------------------------------------------------------------------------------
def remove(holder: Holder, factor_id: UUID) -> None:
    """Take one away; with the last go the recovery codes. Raises Problem."""
    with tenancy.in_platform(), transaction.atomic():
        User.objects.select_for_update().get(pk=holder.user_id)
        factor = _real(holder).filter(pk=factor_id).first()
        if factor is None:
            raise Problem(Code.NOT_FOUND, "There is no such second factor.")
        is_last = not _real(holder).exclude(pk=factor_id).exists()
        if is_last and holder.needed:
            raise Problem(
                Code.NOT_ALLOWED, "This is your last second factor, and you need one: add another first."
            )
        SecondFactor.objects.filter(pk=factor_id).delete()
        if is_last:
            SecondFactor.objects.filter(user_id=holder.user_id).delete()
        holder.record("factor_removed", kind=factor.kind)


def reset(holder: Holder) -> None:
    """Take all away, from somebody who has lost them."""
    with tenancy.in_platform(), transaction.atomic():
        SecondFactor.objects.filter(user_id=holder.user_id).delete()
        holder.record("factors_reset")


def _add(holder: Holder, factor: SecondFactor) -> Sequence[str]:
    """Keep one more. With the first come recovery codes, seen this once."""
    factor.user_id, factor.name = holder.user_id, factor.name.strip()[:60]
    with tenancy.in_platform(), transaction.atomic():
        User.objects.select_for_update().get(pk=holder.user_id)
        there = _real(holder).count()
        if there >= MOST:
            raise Problem(Code.INVALID_REQUEST, f"An account has at most {MOST} second factors.")
        factor.save()
        holder.record_proof("factor_added", kind=factor.kind)
        return [] if there else new_codes(holder)


def _real(holder: Holder) -> Any:
    return SecondFactor.objects.filter(user_id=holder.user_id).exclude(kind=FactorKind.CODE)


def _tries(holder: Holder) -> Tries:
    return Tries(holder.tenant_id, f"factor:{holder.thing}")


def _advanced(factor: SecondFactor, counter: int) -> bool:
    """Whether the counter has gone on; of two who show the same at once, one is refused."""
    with tenancy.in_platform():
        return bool(SecondFactor.objects.filter(pk=factor.pk, counter__lt=counter).update(counter=counter))


def _deleted(factor: SecondFactor) -> bool:
    with tenancy.in_platform():
        return bool(SecondFactor.objects.filter(pk=factor.pk).delete()[0])


def _proved(holder: Holder, factor: SecondFactor, tries: Tries) -> None:
    with tenancy.in_platform():
        SecondFactor.objects.filter(pk=factor.pk).update(used_at=timezone.now())
        holder.record_proof("proved", kind=factor.kind)
    tries.succeeded()


def _refused(holder: Holder, why: str) -> Problem:
    holder.record_proof("proof_failed")
    return Problem(Code.NOT_AUTHENTICATED, why)
