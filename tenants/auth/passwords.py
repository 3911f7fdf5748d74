"""How passwords are hashed, and how often one may be tried."""

from __future__ import annotations

import hashlib
import ipaddress
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.hashers import Argon2PasswordHasher
from django.db import connection

from chatplatform import tenancy
from chatplatform.api.problem import Code, Problem
from chatplatform.observability.context import client_address
from chatplatform.postgres.models import uuid7

# One statement, so that tries made at the same moment are all counted, each before its password is looked at.
TAKE = """
    INSERT INTO tenants_signintries AS row (id, subject, tries, began_at)
    VALUES (%(id)s, %(subject)s, 1, clock_timestamp())
    ON CONFLICT (subject) DO UPDATE SET
        tries = CASE WHEN row.began_at <= clock_timestamp() - %(window)s * interval '1 second'
            THEN 1 ELSE row.tries + 1 END,
        began_at = CASE WHEN row.began_at <= clock_timestamp() - %(window)s * interval '1 second'
            THEN clock_timestamp() ELSE row.began_at END
    WHERE row.tries < %(limit)s OR row.began_at <= clock_timestamp() - %(window)s * interval '1 second'
    RETURNING tries
"""
LEFT = """
    SELECT ceil(extract(epoch FROM began_at + %(window)s * interval '1 second' - clock_timestamp()))
    FROM tenants_signintries WHERE subject = %(subject)s
"""
GIVE_BACK = "UPDATE tenants_signintries SET tries = tries - 1 WHERE subject = %(subject)s AND tries > 0"
FORGET = "DELETE FROM tenants_signintries WHERE subject = %(subject)s"
EXPIRE = (
    "DELETE FROM tenants_signintries WHERE began_at <= clock_timestamp() - %(window)s * interval '1 second'"
)


class Hasher(Argon2PasswordHasher):
    """Argon2id as OWASP recommends it for servers: 19 MiB, two passes, one thread. Django's own takes 100 MiB for
    each password that is looked at, which a few people signing in at once would feel.
    """

    time_cost, memory_cost, parallelism = 2, 19_456, 1


class Tries:
    """Tries at one account's password from the address of the request. `tenant` is None for staff, `account` where
    no account is named: then the address alone counts.

    Each is counted before the password is looked at. Above the limit the password is not looked at any more, right or
    wrong, until the window that began with the first try has passed; refused tries do not lengthen it.
    """

    def __init__(self, tenant: UUID | None, account: str | None) -> None:
        self.account = None if account is None else _account(tenant, account)
        self.address = _subject("address", _network(client_address.get() or ""))

    def take(self) -> None:
        """Count a try. Raises Problem `rate_limited`."""
        for subject, limit in (
            (self.address, settings.SIGN_IN_TRIES_PER_ADDRESS),
            (self.account, settings.SIGN_IN_TRIES_PER_ACCOUNT),
        ):
            if subject is not None and _run(TAKE, id=uuid7(), subject=subject, limit=limit) is None:
                raise _refusal(subject)

    def succeeded(self) -> None:
        """It was the right one: the account's tries are forgotten, and the address's, but for wrong ones."""
        if self.account is not None:
            _run(FORGET, subject=self.account)
        _run(GIVE_BACK, subject=self.address)


def forget_tries(tenant: UUID | None, account: str) -> None:
    """Somebody has shown in another way that the account is theirs: it may be tried again."""
    _run(FORGET, subject=_account(tenant, account))


def expire_tries() -> None:
    """Forget tries whose window has passed."""
    _run(EXPIRE)


def _refusal(subject: str) -> Problem:
    row = _run(LEFT, subject=subject)
    seconds = max(int(row[0]) if row else 1, 1)
    wait = f"{seconds} seconds" if seconds < 90 else f"{-(-seconds // 60)} minutes"
    return Problem(
        Code.RATE_LIMITED,
        f"Too many tries. Wait {wait}, then try again.",
        headers={"Retry-After": str(seconds)},
        retry_after=seconds,
    )


def _run(statement: str, **values: Any) -> Any:
    values["window"] = settings.SIGN_IN_WINDOW
    with tenancy.in_platform(), connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchone() if cursor.description else None


def _account(tenant: UUID | None, name: str) -> str:
    return _subject("account", str(tenant or "platform"), name.casefold())


def _subject(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode(errors="replace")).hexdigest()


def _network(address: str) -> str:
    """Who has an IPv6 address has 2**64 of them."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else address
