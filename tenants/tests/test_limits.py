"""Which limits hold for whom."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from django.test.utils import override_settings

from tenants import limits
from tenants.models import ConfigurationVersion
from tenants.selectors import TenantState
from tenants.terms import Limits


def configured(state: TenantState, **values: Any) -> TenantState:
    return replace(state, configuration=ConfigurationVersion(**values))


def test_nothing_set_is_no_limit_and_no_question(acme: TenantState) -> None:
    assert limits.of_tenant(acme) == Limits()
    assert limits.levels(acme, uuid4()) == []


@pytest.mark.parametrize(
    ("own", "tier", "expected"),
    [
        (None, None, None),
        (7, None, 7),
        (None, 9, 9),
        (7, 9, 7),
        (11, 9, 9),
        (0, 9, 0),
        (9, 0, 0),
    ],
)
def test_the_lower_of_configuration_and_tier_holds(
    acme: TenantState, own: int | None, tier: int | None, expected: int | None
) -> None:
    state = configured(acme, requests_per_minute=own, tokens_per_minute=own, user_requests_per_minute=own)
    with override_settings(TIER_LIMITS={"free": (tier, tier, tier), "pro": (1, 1, 1)}):
        assert limits.of_tenant(replace(state, tier="free")) == Limits(expected, expected, expected)
        assert limits.of_tenant(replace(state, tier="custom")) == Limits(own, own, own)


@override_settings(GLOBAL_REQUESTS_PER_MINUTE=1000, GLOBAL_TOKENS_PER_MINUTE=None)
def test_a_call_is_counted_where_there_is_a_limit_the_narrowest_first(acme: TenantState) -> None:
    state = configured(acme, tokens_per_minute=500, user_requests_per_minute=3)
    found = [(level.name, level.requests, level.tokens) for level in limits.levels(state, uuid4())]
    assert found == [("user", 3, None), ("tenant", None, 500), ("global", 1000, None)]
    assert [level.name for level in limits.levels(state)] == ["tenant", "global"]


@override_settings(GLOBAL_REQUESTS_PER_MINUTE=1000)
def test_keys_name_their_owner_and_nobody_else_has_them(acme: TenantState, globex: TenantState) -> None:
    contact, call = uuid4(), uuid4()
    keys = {}
    for state in (acme, globex):
        limited = configured(state, requests_per_minute=5, user_requests_per_minute=3)
        keys[state.ref.slug] = [level.key for level in limits.levels(limited, contact)]
        assert str(state.ref.id) in limits.call_key(state.ref, call)
    (acme_user, acme_tenant, acme_global), (user, tenant, together) = keys["acme"], keys["globex"]
    assert acme_global == together == "cp:platform:rate:global"
    assert len({acme_user, acme_tenant, user, tenant}) == 4
    assert str(contact) in acme_user
