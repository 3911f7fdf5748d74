"""The context that says which tenant the code is looking at, and the keys made from it. Touches no database."""

from __future__ import annotations

import asyncio
import threading
import uuid

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from hypothesis import given
from hypothesis import strategies as st

from chatplatform import tenancy
from chatplatform.tenancy import NoTenant, TenantRef, View

ACME = TenantRef(uuid.UUID(int=1), "acme", "t_acme")
GLOBEX = TenantRef(uuid.UUID(int=2), "globex", "t_globex")
parts = st.lists(st.text(max_size=5), min_size=1, max_size=4)


def here() -> TenantRef | None:
    scope = tenancy.scope_or_none()
    return scope.tenant if scope else None


def test_it_assumes_nothing_outside_a_context() -> None:
    assert tenancy.scope_or_none() is None
    for ask in (tenancy.current_scope, tenancy.current_tenant, lambda: tenancy.key("x")):
        with pytest.raises(NoTenant):
            ask()


def test_it_has_no_tenant_on_the_platform() -> None:
    with tenancy.in_platform() as scope, pytest.raises(NoTenant):
        assert scope.view is View.PLATFORM
        tenancy.current_tenant()


def test_it_nests_and_unwinds_in_order() -> None:
    with tenancy.in_tenant(ACME):
        with tenancy.in_platform():
            with tenancy.staff_view(GLOBEX) as scope:
                assert (scope.view, here()) == (View.STAFF, GLOBEX)
            assert here() is None
        assert here() == ACME
    assert tenancy.scope_or_none() is None


def test_it_is_left_when_the_block_raises() -> None:
    with pytest.raises(ZeroDivisionError), tenancy.in_tenant(ACME):
        raise ZeroDivisionError
    assert tenancy.scope_or_none() is None


def test_a_plain_thread_starts_without_a_tenant() -> None:
    seen: list[TenantRef | None] = [GLOBEX]
    with tenancy.in_tenant(ACME):
        thread = threading.Thread(target=lambda: seen.append(here()))
        thread.start()
        thread.join()
    assert seen[-1] is None


@pytest.mark.parametrize("thread_sensitive", [True, False])
async def test_it_follows_sync_to_async_into_its_thread(thread_sensitive: bool) -> None:
    with tenancy.in_tenant(ACME):
        assert await sync_to_async(here, thread_sensitive=thread_sensitive)() == ACME


def test_it_follows_async_to_sync_into_the_loop() -> None:
    async def ask() -> TenantRef | None:
        return here()

    with tenancy.in_tenant(ACME):
        assert async_to_sync(ask)() == ACME


async def test_a_thread_cannot_change_the_callers_tenant() -> None:
    def wander() -> None:
        tenancy.in_tenant(GLOBEX).__enter__()  # and never leaves

    with tenancy.in_tenant(ACME):
        await asyncio.to_thread(wander)
        assert here() == ACME


async def test_interleaved_tasks_keep_their_own_tenants() -> None:
    turns: asyncio.Queue[None] = asyncio.Queue()
    seen: list[tuple[TenantRef, TenantRef | None]] = []

    async def chat(tenant: TenantRef) -> None:
        with tenancy.in_tenant(tenant):
            for _ in range(5):
                await asyncio.sleep(0)
                seen.append((tenant, here()))
                turns.put_nowait(None)

    await asyncio.gather(chat(ACME), chat(GLOBEX))
    assert [tenant for tenant, _ in seen[:4]] == [ACME, GLOBEX, ACME, GLOBEX]
    assert all(tenant == found for tenant, found in seen)


async def test_a_task_keeps_the_tenant_that_it_was_started_in() -> None:
    started = asyncio.Event()

    async def later() -> TenantRef | None:
        await started.wait()
        return here()

    with tenancy.in_tenant(ACME):
        task = asyncio.create_task(later())
    with tenancy.in_tenant(GLOBEX):
        started.set()
        assert await task == ACME


@given(parts, parts)
def test_keys_of_different_parts_are_different(one: list[str], other: list[str]) -> None:
    with tenancy.in_tenant(ACME):
        assert (tenancy.key(*one) == tenancy.key(*other)) == (one == other)


@given(parts, parts)
def test_keys_of_two_tenants_are_never_equal(one: list[str], other: list[str]) -> None:
    with tenancy.in_tenant(ACME):
        ours = tenancy.key(*one)
    with tenancy.in_tenant(GLOBEX):
        theirs = tenancy.key(*other)
    with tenancy.in_platform():
        assert len({ours, theirs, tenancy.key(*one)}) == 3


def test_a_colon_in_a_part_does_not_move_the_border() -> None:
    with tenancy.in_tenant(ACME):
        assert tenancy.key("a:b", "c") != tenancy.key("a", "b:c")
        assert tenancy.cache_key("a:b", "c", 1) != tenancy.cache_key("b", "c:a", 1)


def test_staff_see_a_tenants_keys_and_not_the_platforms() -> None:
    with tenancy.in_tenant(ACME):
        own = tenancy.key("x")
    with tenancy.staff_view(ACME):
        assert tenancy.key("x") == own
