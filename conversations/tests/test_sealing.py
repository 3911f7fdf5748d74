"""What is sealed, under whose key, and what cannot be opened."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.db.models import Model
from django.utils import timezone

from chatplatform import tenancy
from chatplatform.testing.clients import Caller
from chatplatform.testing.commands import result_of
from conversations.models import Conversation, Feedback, Message
from conversations.services.conversations import begin
from conversations.vocabulary import Role
from tenants import keyring, secrets, selectors
from tenants.master_keys import MasterKeyMissing
from tenants.models import Contact, DataKey, SigningKey, Tenant, TenantKey
from tenants.models.audit import PLATFORM
from tenants.selectors import TenantState
from tenants.services import key_rotation, signing_keys
from tenants.services.contacts import contact_for

CANARY = "My secret is a purple heron."


def say(conversation: Conversation, text: str = CANARY) -> Message:
    return Message.objects.create(conversation=conversation, role=Role.USER, content=text)


def stored(instance: Model, column: str = "content") -> bytes:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {column} FROM {instance._meta.db_table} WHERE id = %s", [instance.pk])
        return bytes(cursor.fetchone()[0])


def put(instance: Model, column: str, value: bytes) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {instance._meta.db_table} SET {column} = %s WHERE id = %s", [value, instance.pk]
        )


def forget_keys() -> None:
    keyring._kept.clear()


@pytest.fixture
def jane(in_acme: TenantState) -> Contact:
    return contact_for("jane")


def test_every_text_of_a_contact_is_sealed_under_its_key(jane: Contact) -> None:
    conversation = begin(contact=jane, system_prompt=CANARY)
    conversation.rating_comment = conversation.escalation_reason = CANARY
    conversation.save()
    message = say(conversation)
    feedback = Feedback.objects.create(message=message, rating="up", comment=CANARY)
    columns: list[tuple[Any, str]] = [
        (message, "content"),
        (feedback, "comment"),
        *((conversation, name) for name in ("system_prompt", "rating_comment", "escalation_reason")),
    ]
    for one, name in columns:
        sealed = stored(one, name)
        assert secrets.sealed_with(sealed) == jane.id
        assert b"heron" not in sealed
        assert getattr(type(one).objects.get(pk=one.pk), name) == CANARY


def test_the_same_text_is_never_the_same_bytes(jane: Contact) -> None:
    conversation = begin(contact=jane)
    assert stored(say(conversation)) != stored(say(conversation))


def test_what_is_moved_or_changed_is_not_opened(jane: Contact) -> None:
    conversation = begin(contact=jane, system_prompt="-")
    one, two = say(conversation), say(conversation, "Two")
    sealed = stored(one)
    put(two, "content", sealed)
    with pytest.raises(secrets.Tampered):
        Message.objects.get(pk=two.pk)
    put(conversation, "system_prompt", sealed)
    with pytest.raises(secrets.Tampered):
        Conversation.objects.get(pk=conversation.pk)
    put(one, "content", sealed[:-1] + bytes([sealed[-1] ^ 1]))
    with pytest.raises(secrets.Tampered):
        Message.objects.get(pk=one.pk)


def test_one_tenants_text_is_not_opened_in_another(jane: Contact, globex: TenantState) -> None:
    sealed = Message.sealed(CANARY, jane.id, jane.id)
    with tenancy.in_tenant(globex.ref), pytest.raises(secrets.UnknownKey):
        Message.opened(sealed, jane.id)


def test_text_without_its_key_is_lost(jane: Contact) -> None:
    message = say(begin(contact=jane))
    DataKey.objects.filter(id=jane.id).delete()
    forget_keys()
    with pytest.raises(secrets.UnknownKey):
        Message.objects.get(pk=message.pk)


def test_nobody_makes_a_key_for_somebody_erased(jane: Contact) -> None:
    gone = jane.id
    jane.delete()
    assert not DataKey.objects.filter(id=gone).exists()
    forget_keys()
    with pytest.raises(secrets.UnknownKey):
        Message.sealed(CANARY, gone, gone)


def test_a_key_that_was_rolled_back_is_not_kept(jane: Contact) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        say(begin(contact=jane))
        raise ZeroDivisionError
    assert not DataKey.objects.filter(id=jane.id).exists()
    message = say(begin(contact=jane))
    forget_keys()
    assert Message.objects.get(pk=message.pk).content == CANARY


def test_a_text_needs_its_row(in_acme: TenantState) -> None:
    with pytest.raises(TypeError, match="save an instance"):
        Message.objects.update(content="x")


def test_signing_keys_are_sealed_too(acme: TenantState) -> None:
    with tenancy.in_platform():
        signing_keys.rotate(compromised=True)
        row = SigningKey.objects.get(state="current")
        assert b"PRIVATE" not in stored(row, "private_pem") and "PRIVATE" in row.private_pem


# --- A tenant's choice -----------------------------------------------------------------------------------------
def wants(tenant: TenantState, encrypts: bool) -> None:
    with tenancy.in_platform():
        Tenant.objects.filter(id=tenant.ref.id).update(encrypts=encrypts)
    selectors.forget(tenant.ref.id)


def test_a_tenant_may_keep_texts_in_the_clear_and_think_better_of_it(
    jane: Contact, acme: TenantState
) -> None:
    wants(acme, False)
    message = say(begin(contact=jane))
    assert CANARY.encode() in stored(message)
    assert Message.objects.get(pk=message.pk).content == CANARY
    wants(acme, True)
    assert result_of("rotate_keys", "--tenant", "acme")["rotated"]["acme"]["texts"] == 1
    assert b"heron" not in stored(message)
    assert Message.objects.get(pk=message.pk).content == CANARY
    wants(acme, False)
    assert result_of("rotate_keys", "--tenant", "acme")["rotated"]["acme"]["texts"] >= 1
    assert CANARY.encode() in stored(message)
    wants(acme, True)


# --- Rotation --------------------------------------------------------------------------------------------------
def test_a_new_tenant_key_wraps_all_and_the_old_one_is_gone(jane: Contact, acme: TenantState) -> None:
    message = say(begin(contact=jane))
    before, sealed = DataKey.objects.get(id=jane.id), stored(message)
    result_of("rotate_keys", "--tenant", "acme")
    after = DataKey.objects.get(id=jane.id)
    assert after.tenant_key != before.tenant_key and after.wrapped != before.wrapped
    with tenancy.in_platform():
        kept = TenantKey.objects.filter(tenant=acme.ref.id)
        assert {row.id: row.current for row in kept} == {before.tenant_key: False, after.tenant_key: True}
        kept.filter(current=False).update(replaced_at=timezone.now() - key_rotation.GRACE * 2)
    forget_keys()
    assert stored(message) == sealed and Message.objects.get(pk=message.pk).content == CANARY
    result_of("rotate_keys", "--tenant", "acme")
    with tenancy.in_platform():
        assert before.tenant_key not in {row.id for row in kept.all()} and kept.count() == 2
    forget_keys()
    assert Message.objects.get(pk=message.pk).content == CANARY


def test_a_rotation_that_was_broken_off_goes_on(jane: Contact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_rotation, "BATCH", 1)
    message = say(begin(contact=jane))
    tenant = tenancy.current_tenant()

    def break_off(said: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        key_rotation.rotate_tenant(tenant, break_off)
    forget_keys()
    assert Message.objects.get(pk=message.pk).content == CANARY
    with tenancy.in_platform():
        begun = set(TenantKey.objects.filter(tenant=tenant.id).values_list("id", "current"))
    assert len(begun) == 2
    key_rotation.rotate_tenant(tenant, print)
    with tenancy.in_platform():
        assert set(TenantKey.objects.filter(tenant=tenant.id).values_list("id", "current")) == begun
    assert set(DataKey.objects.values_list("tenant_key", flat=True)) == {
        id for id, current in begun if current
    }
    forget_keys()
    assert Message.objects.get(pk=message.pk).content == CANARY


def test_a_new_master_key_wraps_all_and_the_old_one_is_needed_no_more(jane: Contact, settings: Any) -> None:
    message = say(begin(contact=jane))
    signer = signing_keys.rotate(compromised=True).current
    before = DataKey.objects.get(id=jane.id).tenant_key
    settings.MASTER_KEY_AT = settings.MASTER_OLD_KEYS_AT = None
    settings.MASTER_OLD_KEYS, settings.MASTER_KEY = settings.MASTER_KEY, "a new master key"
    done = result_of("rotate_keys", "--master")
    assert done["tenant_keys"] >= 3 and done["left"] >= 3  # acme's, globex's, the platform's
    with tenancy.in_platform():
        TenantKey.objects.filter(current=False).update(replaced_at=timezone.now() - key_rotation.GRACE * 2)
    assert result_of("rotate_keys", "--master") == {"tenant_keys": 0, "left": 0}
    with tenancy.in_platform():  # what older backups have was never under the new master key
        assert not TenantKey.objects.filter(id=before).exists()
    old, settings.MASTER_OLD_KEYS = settings.MASTER_OLD_KEYS, ""
    forget_keys()
    assert Message.objects.get(pk=message.pk).content == CANARY
    with tenancy.in_platform():
        assert "PRIVATE" in SigningKey.objects.get(kid=signer).private_pem
    settings.MASTER_KEY = old
    forget_keys()
    with pytest.raises(MasterKeyMissing):
        Message.objects.get(pk=message.pk)


@pytest.mark.processes
def test_no_request_fails_while_keys_are_rotated(acme_api: Caller, committed: None) -> None:
    """Each turn is of a contact who is new, so that keys are made all the while."""
    keys = []

    def chat(number: int) -> str:
        said = f"Number {number}"
        conversation = acme_api.begin(end_user=f"r-{uuid4()}")
        acme_api.ask(conversation, said)
        acme_api.ask(conversation, said)
        return str(acme_api.get(f"/conversations/{conversation}/messages").json()["results"][0]["content"])

    with ThreadPoolExecutor(4) as pool:
        told = [pool.submit(chat, number) for number in range(24)]
        while not all(one.done() for one in told):
            keys.append(result_of("rotate_keys", "--tenant", "acme")["rotated"]["acme"]["data_keys"])
    assert [one.result() for one in told] == [f"Number {number}" for number in range(24)]
    assert len(keys) > 1 and sum(keys) > 24


def test_the_platforms_key_is_rotated_with_all(acme: TenantState) -> None:
    signing_keys.rotate(compromised=True)
    with tenancy.in_platform():
        before = TenantKey.objects.get(tenant=PLATFORM, current=True).id
    result_of("rotate_keys")
    with tenancy.in_platform():
        assert TenantKey.objects.get(tenant=PLATFORM, current=True).id != before
        row = SigningKey.objects.get(state="current")
        assert secrets.sealed_with(stored(row, "private_pem")) != before and "PRIVATE" in row.private_pem
