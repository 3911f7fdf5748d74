"""The words in which every app says how `manage.py check_isolation` walks what is its own.

Each app has an `isolation.py` with a `WALKS`: how to plant something worth stealing in a tenant, and closed tables of
its routes, tasks, commands, keys and searches. What is in none of these is a failure of the check, not a gap in it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from chatplatform.tenancy import TenantRef


class Who(enum.StrEnum):
    """Whose credentials a call carries."""

    NOBODY = "nobody"
    KEY = "the tenant's API key"
    TOKEN = "an end user's token"
    VISITOR = "a visitor's cookie"
    MEMBER = "a member's cookie"
    LEAVING_MEMBER = "another member's cookie"  # good until the call that ends it
    STAFF = "staff's cookie"
    LEAVING_STAFF = "another staff cookie"
    PLATFORM = "a platform key"


TENANTS_OWN = (Who.KEY, Who.TOKEN, Who.VISITOR, Who.MEMBER)


@dataclass
class Planted:
    """A throw-away tenant and what was planted in it.

    `canary` is a word that nothing else in the world contains; `ids` are identifiers by the names that the tables use
    (`{name}` in a body, query or cookie, or a parameter of a route), `codes` those that are good for a moment only;
    `credentials` are the headers that each `Who` sends.
    """

    ref: TenantRef
    canary: str
    ids: dict[str, str] = field(default_factory=dict)
    credentials: dict[Who, dict[str, str]] = field(default_factory=dict)
    codes: dict[str, Callable[[], str]] = field(default_factory=dict)

    def known(self) -> dict[str, str]:
        """All identifiers, as they are now."""
        return {**self.ids, **{name: code() for name, code in self.codes.items()}}


@dataclass(frozen=True, slots=True)
class Call:
    """One way to call a route, and the status that its own tenant must get.

    `shows`: the own canary must be in the answer, so that it is known to lead to what was planted. `open`: the same for
    everybody, so others are not refused. `ids` says which identifier a parameter takes, if not that of its name.
    `everybody`: staff's lists, which may show all tenants. `cookie`: one more, beside those of who it is.
    """

    who: Who
    method: str = "GET"
    status: int = 200
    body: Mapping[str, Any] | None = None
    query: str = ""
    cookie: str = ""
    shows: bool = False
    open: bool = False
    everybody: bool = False
    ids: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Job:
    """How a task is run: `args` name identifiers. A platform's task looks after all tenants and takes none."""

    args: tuple[str, ...] = ()
    of_tenant: bool = False
    fails_for_others: bool = False  # else others' identifiers are nothing to it


@dataclass(frozen=True, slots=True)
class Command:
    """How a command is run: `arguments` with `{name}` for identifiers. `shows` and `everybody` as in Call; an archive
    that it `writes` is part of what it shows. `fails_for_others`: with the first identifier its own and the others not.
    """

    arguments: tuple[str, ...] = ()
    shows: bool = False
    everybody: bool = False
    writes: str = ""
    fails_for_others: bool = False


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Not run as the others are, and why."""

    why: str


@dataclass(frozen=True, slots=True)
class Walks:
    """What one app knows. Routes by their pattern: of the API, of tenants' hosts, of the platform's host, in the order
    in which they can be walked. `keys` are the first parts of `tenancy.key`. `searches` by the model that is searched:
    they answer a question with text. `forget` removes what the erasure of a tenant leaves."""

    plant: Callable[[Planted], None]
    api: Mapping[str, tuple[Call, ...]] = field(default_factory=dict)
    pages: Mapping[str, tuple[Call, ...]] = field(default_factory=dict)
    staff: Mapping[str, tuple[Call, ...]] = field(default_factory=dict)
    sockets: frozenset[str] = frozenset()
    tasks: Mapping[str, Job | Elsewhere] = field(default_factory=dict)
    commands: Mapping[str, Command | tuple[Command, ...] | Elsewhere] = field(default_factory=dict)
    keys: frozenset[str] = frozenset()
    searches: Mapping[str, Callable[[str], str]] = field(default_factory=dict)
    forget: Callable[[Planted], None] | None = None
