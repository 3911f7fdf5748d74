"""What a transaction writes as its last act.

A lock that many transactions want, and in no fixed order, is best taken last: then it is held for the commit alone,
and two that wait for each other cannot be. What is to be written is kept with Django's own hooks for after the commit,
so that a rollback, of a savepoint too, drops it like those.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import transaction

Write = Callable[[Sequence[Any]], None]


@dataclass(frozen=True, slots=True)
class AtCommit:
    """A thing to be written, and the function that writes all such things of a transaction together."""

    write: Write
    thing: Any

    def __call__(self) -> None:
        """After the commit there is nothing left to do."""


def at_commit(write: Write, thing: Any) -> None:
    """Have `write([thing, …])` called right before the transaction commits. What it raises undoes the transaction."""
    with transaction.atomic(savepoint=False):
        transaction.on_commit(AtCommit(write, thing))


def write_pending(connection: Any) -> None:
    """Write what the open transaction has kept for its end. The database backend calls this."""
    waiting: dict[Write, list[Any]] = {}
    for _, hook, _ in connection.run_on_commit:
        if isinstance(hook, AtCommit):
            waiting.setdefault(hook.write, []).append(hook.thing)
    connection.run_on_commit = [one for one in connection.run_on_commit if not isinstance(one[1], AtCommit)]
    for write, things in waiting.items():
        write(things)
