"""What logs and the audit log know of the work in hand, from context variables that follow it: see also tenancy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

request_id: ContextVar[str | None] = ContextVar("chatplatform_request_id", default=None)
client_address: ContextVar[str | None] = ContextVar("chatplatform_client_address", default=None)


def _the_platform() -> tuple[Any, str]:
    return "system", ""


# Who is at it, as a kind (an ActorKind of the tenants app) and an id. A function, because to know it may take a query.
actor: ContextVar[Callable[[], tuple[Any, str]]] = ContextVar("chatplatform_actor", default=_the_platform)


@contextmanager
def acting(who: Callable[[], tuple[Any, str]]) -> Iterator[None]:
    """What is done inside is done by this actor."""
    token = actor.set(who)
    try:
        yield
    finally:
        actor.reset(token)
