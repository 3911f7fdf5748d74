"""The keys that the platform signs with, and how one takes over from another while tokens are in use."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import jwt
import pytest
from django.db import IntegrityError, transaction

from chatplatform import tenancy
from chatplatform.testing.commands import result_of, text_of
from tenants import control
from tenants.models import Contact, SigningKey, Tenant
from tenants.selectors import TenantState
from tenants.services import api_keys, signing_keys, tokens
from tenants.services.contacts import contact_for
from tenants.tests.tokens import age, fresh, shown, soon, unwanted
from tenants.vocabulary import Scope

__all__ = ["fresh"]


@pytest.fixture
def by(fresh: TenantState) -> str:
    """The id of a key of Acme's."""
    with tenancy.in_platform():
        return api_keys.create(Tenant.objects.get(slug="acme"), [Scope.CHAT])[0].public_id


@pytest.fixture
def ada(fresh: TenantState) -> Contact:
    with tenancy.in_tenant(fresh.ref):
        return contact_for("ada")


def states() -> dict[str, str]:
    """The states of all keys by their id."""
    with tenancy.in_platform():
        return dict(SigningKey.objects.values_list("kid", "state"))


def kid_of(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


def test_the_first_use_makes_a_key_that_signs_and_one_that_is_next(fresh: TenantState) -> None:
    assert states() == {}
    first = signing_keys.signer().kid
    assert sorted(states().values()) == ["current", "next"]
    assert states()[first] == "current"
    assert set(signing_keys.published().keys) == set(states())


def test_there_is_one_current_and_one_next(fresh: TenantState) -> None:
    signing_keys.signer()
    for state in ("current", "next"):
        with tenancy.in_platform(), pytest.raises(IntegrityError), transaction.atomic():
            SigningKey.objects.create(kid=state, state=state, public_jwk={})


def test_a_key_is_published_before_it_signs_and_kept_until_its_tokens_are_over(
    fresh: TenantState, ada: Contact, by: str
) -> None:
    old = tokens.issue(fresh, ada, by=by, lifetime=tokens.LONGEST)
    following = next(kid for kid, state in states().items() if state == "next")
    assert signing_keys.rotate().did == [], "others may not have seen it yet"
    age("next", soon())
    done = signing_keys.rotate()
    assert (done.current, done.previous) == (following, [kid_of(old)])
    assert states()[done.next] == "next"
    new = tokens.issue(fresh, ada, by=by)
    assert kid_of(new) == following
    assert shown(old).contact_id == shown(new).contact_id == ada.pk
    assert set(signing_keys.published().keys) == {kid_of(old), kid_of(new), done.next}
    # Until the longest token that it can have signed is over:
    age("previous", timedelta(seconds=tokens.LONGEST))
    assert signing_keys.rotate().did == []
    age("previous", timedelta(seconds=120))
    assert signing_keys.rotate().did == [f"{kid_of(old)} is retired"]
    assert kid_of(old) not in signing_keys.published().keys
    assert "revoked" in unwanted(old), "also where it is remembered"


def test_no_token_breaks_however_often_it_is_done(fresh: TenantState, ada: Contact, by: str) -> None:
    alive = []
    for _ in range(4):
        alive.append(tokens.issue(fresh, ada, by=by))
        age("next", soon())
        signing_keys.rotate()
        signing_keys.rotate()
        assert {shown(token).contact_id for token in alive} == {ada.pk}
    assert len({kid_of(token) for token in alive}) == 4
    assert sorted(states().values()) == ["current", "next", *["previous"] * 4]


def test_a_key_that_signs_no_more_has_no_secret(fresh: TenantState, ada: Contact) -> None:
    signing_keys.signer()
    age("next", soon())
    signing_keys.rotate()
    with tenancy.in_platform():
        left = {key.state: bool(key.private_pem) for key in SigningKey.objects.all()}
    assert left == {"current": True, "next": True, "previous": False}


def test_the_longest_token_is_over_before_its_key_is() -> None:
    assert signing_keys.KEPT_FOR.total_seconds() > tokens.LONGEST + signing_keys.LEEWAY
    assert signing_keys.PUBLISHED_FOR.total_seconds() > signing_keys.CACHED_FOR


def test_a_compromised_key_and_all_it_signed_are_worth_nothing_at_once(
    fresh: TenantState, ada: Contact, by: str
) -> None:
    older = tokens.issue(fresh, ada, by=by)
    age("next", soon())
    signing_keys.rotate()
    old = tokens.issue(fresh, ada, by=by)
    assert shown(old)
    assert shown(older)
    done = signing_keys.rotate(compromised=True)
    for token in (old, older):
        assert "revoked" in unwanted(token)
        assert states()[kid_of(token)] == "retired"
    assert done.previous == []
    assert kid_of(tokens.issue(fresh, ada, by=by)) == done.current
    assert set(signing_keys.published().keys) == {done.current, done.next}
    assert len([state for state in states().values() if state == "retired"]) == 3, "the next one, too"


def test_other_processes_hear_of_it(fresh: TenantState) -> None:
    signing_keys.signer()
    signing_keys.published()
    control.handle({"kind": "signing_keys_changed"})
    assert not signing_keys._published
    assert not signing_keys._signer


# --- The command -----------------------------------------------------------------------------------------------
def test_the_command_says_what_it_did(fresh: TenantState) -> None:
    first = result_of("rotate_signing_keys")
    assert first["did"] == [f"{first['current']} signs", f"{first['next']} is published as the next one"]
    again = result_of("rotate_signing_keys")
    assert again == {**first, "did": []}
    assert "Nothing was due." in text_of("rotate_signing_keys")
    age("next", soon())
    then = result_of("rotate_signing_keys")
    assert (then["current"], then["previous"]) == (first["next"], [first["current"]])
    assert len(then["did"]) == 3
    burnt = result_of("rotate_signing_keys", "--compromised")
    assert not {burnt["current"], burnt["next"]} & {then["current"], then["next"]}
    assert burnt["previous"] == []


def test_two_at_once_do_it_once(committed: None) -> None:
    """Two operators, or two first requests: the database lets one after the other."""
    try:
        with ThreadPoolExecutor(4) as threads:
            done = [one.result() for one in [threads.submit(signing_keys.rotate) for _ in range(4)]]
        assert len({(one.current, one.next) for one in done}) == 1
    finally:
        signing_keys.forget()
