"""Contexts entered, left, nested and mixed with transactions, errors and raw statements in any order.

Each example is a small program; after each of its steps the database must be seen with the eyes of the context in
force. (A raw RESET ROLE alone is not noticed: what follows is refused, as test_fence shows.)
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from typing import Any
from uuid import UUID

import pytest
from django.db import DatabaseError, ProgrammingError, connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chatplatform import tenancy
from chatplatform.postgres import names
from chatplatform.testing import cast
from tenants import audit
from tenants.models import Contact
from tenants.selectors import TenantState
from tenants.vocabulary import AuditAction

SAME = UUID("01900000-0000-7000-8000-00000000fe9d")
SABOTAGE = (
    "RESET ALL",
    "RESET search_path",
    "SET search_path = t_globex, public",
    "SET LOCAL search_path = t_acme, public",
)
Tenants = dict[str, TenantState]
Program = list[tuple[str, Any]]  # names of steps, each with a program that runs inside it
WAYS = ["platform", *(f"{view} {slug}" for view in ("tenant", "staff") for slug in cast.NAMES)]
leaves = st.sampled_from(["look", "error", "give back", "record", *SABOTAGE])
blocks = st.sampled_from(["atomic", "rolled back", *WAYS])
steps: st.SearchStrategy[tuple[str, Any]] = st.recursive(
    st.tuples(leaves, st.just([])),
    lambda inner: st.tuples(blocks, st.lists(inner, max_size=4)),
    max_leaves=8,
)
programs = st.lists(steps, min_size=1, max_size=5)


@pytest.fixture(scope="module")
def tenants(django_db_setup: None, django_db_blocker: pytest.FixtureRequest) -> Iterator[Tenants]:
    """Both tenants have a contact with the same primary key and their own name."""
    with django_db_blocker.unblock():  # type: ignore[attr-defined]
        both = {slug: cast.state(slug) for slug in cast.NAMES}
        for tenant in both.values():
            with tenancy.in_tenant(tenant.ref):
                Contact.objects.create(pk=SAME, name=tenant.name)
        yield both
        for tenant in both.values():
            with tenancy.in_tenant(tenant.ref):
                Contact.objects.filter(pk=SAME).delete()
        connection.close()


class Undone(Exception):
    """Ends a block that is to be rolled back."""


def enter(way: str, tenants: Tenants) -> AbstractContextManager[Any]:
    view, _, slug = way.partition(" ")
    if view == "platform":
        return tenancy.in_platform()
    return (tenancy.in_tenant if view == "tenant" else tenancy.staff_view)(tenants[slug].ref)


def check() -> None:
    """What is seen is what the context says, and nothing else can be."""
    scope, database = tenancy.current_scope(), connection.settings_dict["NAME"]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT current_user, current_schema()")
        role, schema = cursor.fetchone()
    if scope.view is tenancy.View.TENANT:
        assert scope.tenant and role == names.tenant_role(database, scope.tenant.schema)
    else:
        assert role == names.platform_role(database)
    if scope.tenant is None:
        assert schema == "public"
        with pytest.raises(ProgrammingError), transaction.atomic():
            Contact.objects.count()
    else:
        assert schema == scope.tenant.schema
        found = Contact.objects.filter(pk=SAME).values_list("name", flat=True)
        assert [name.lower() for name in found] == [scope.tenant.slug]


def run(program: Program, tenants: Tenants) -> None:
    for name, inner in program:
        if name in WAYS:
            with enter(name, tenants):
                check()
                run(inner, tenants)
        elif name == "atomic":
            with transaction.atomic():
                run(inner, tenants)
        elif name == "rolled back":
            with suppress(Undone), transaction.atomic():
                run(inner, tenants)
                raise Undone
        elif name == "error":
            with suppress(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SELECT 1/0")
        elif name == "give back":
            if not connection.in_atomic_block:
                connection.close()
        elif name == "record":  # at the commit, which comes in another context than this
            audit.record(AuditAction.TENANT_CHANGED, "walk")
        elif name in SABOTAGE:
            connection.ensure_connection()
            connection.connection.execute(name)
        check()


@given(st.sampled_from(WAYS), programs)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_came_before_a_context_sees_its_own(
    committed: None, tenants: Tenants, first: str, program: Program
) -> None:
    with enter(first, tenants):
        run(program, tenants)


def test_threads_that_share_the_pool_do_not_disturb_each_other(committed: None, tenants: Tenants) -> None:
    """Each goes through all pairs of contexts, one inside the other, from another start, and gives back in between."""
    together = threading.Barrier(4)

    def walk(start: int) -> None:
        together.wait(10)
        for outer in (*WAYS[start:], *WAYS[:start]):
            nested: Program = [(inner, [("atomic", [("error", [])])]) for inner in WAYS]
            try:
                with enter(outer, tenants):
                    run([*nested, ("give back", []), ("rolled back", nested)], tenants)
            finally:
                connection.close()

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(walk, start) for start in range(4)]:
            done.result(30)
