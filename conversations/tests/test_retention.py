"""What a tenant does not keep any longer is deleted, unless somebody has said that nothing may be."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from chatplatform import tenancy
from chatplatform.api.problem import Code, Problem
from chatplatform.testing.audit import written
from conversations.models import Conversation, Message
from conversations.services import erasure, retention
from conversations.tests.test_staff import answered, talk
from tenants.models import Contact, DataKey, Tenant
from tenants.selectors import TenantState
from tenants.services import lifecycle
from tenants.services.contacts import contact_for


def keeps(tenant: TenantState, **how: Any) -> None:
    with tenancy.in_platform():
        Tenant.objects.filter(id=tenant.ref.id).update(**how)


def age(rows: Any, days: int) -> None:
    rows.update(updated_at=timezone.now() - timedelta(days=days))


@pytest.fixture
def old(in_acme: TenantState) -> Conversation:
    """A conversation of a contact who has not been here for 40 days."""
    contact = contact_for("jane")
    conversation = talk(in_acme, "long ago", contact=contact)
    answered(in_acme, conversation, "Yes")
    age(Conversation.objects.filter(id=conversation.id), 40)
    age(Contact.objects.filter(id=contact.id), 40)
    return conversation


def test_what_is_too_old_goes_with_contact_and_key_and_the_rest_stays(
    old: Conversation, acme: TenantState
) -> None:
    talk(acme, "yesterday", contact=contact_for("john"))
    keeps(acme, retention_days=30)
    assert retention.expire_everywhere() == 1
    assert [one.content for one in Message.objects.all()] == ["yesterday"]
    assert [one.external_id for one in Contact.objects.all()] == ["john"]
    assert old.contact_id not in DataKey.objects.values_list("id", flat=True)
    assert written("action", "data")[-1] == ("conversation.expired", {"conversations": 1, "contacts": 1})
    assert retention.expire_everywhere() == 0


def test_a_reply_that_is_under_way_is_not_deleted(old: Conversation, acme: TenantState) -> None:
    old.replies.update(status="generating")
    keeps(acme, retention_days=30)
    assert retention.expire_everywhere() == 0


@pytest.mark.parametrize("how", [{}, {"retention_days": 50}, {"retention_days": 30, "legal_hold": True}])
def test_what_is_not_too_old_or_on_hold_stays(
    old: Conversation, acme: TenantState, how: dict[str, Any]
) -> None:
    keeps(acme, **how)
    assert retention.expire_everywhere() == 0
    assert Message.objects.count() == 2


def test_on_legal_hold_nobody_erases_anything(old: Conversation, acme: TenantState) -> None:
    keeps(acme, legal_hold=True)
    with pytest.raises(Problem) as contact:
        erasure.erase_contact(contact_for("jane"))
    with pytest.raises(Problem) as tenant:
        lifecycle.erase("acme")
    assert contact.value.code is tenant.value.code is Code.NOT_ALLOWED
    assert Message.objects.count() == 2
