"""What a process makes sure of before it serves anybody."""

from __future__ import annotations

import os
import sys

import django
import structlog
from django.db import ProgrammingError, connection

log = structlog.get_logger("chatplatform.startup")


def check() -> None:
    """End this process with one line on stderr if it could not open what is stored.

    Where the database is away, or not migrated yet, nobody knows; `/readyz` asks again then.
    """
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatplatform.settings")
    django.setup(set_prefix=False)
    from chatplatform.api.problem import DATABASE_GONE
    from tenants import keyring

    try:
        missing = keyring.missing()
    except (ProgrammingError, *DATABASE_GONE) as error:
        log.warning("keys_not_checked", error=type(error).__name__)
        return
    finally:
        connection.close()
    if missing:
        sys.exit(f"Error: {missing} Give this process the MASTER_KEY of the others, or MASTER_OLD_KEYS.")
