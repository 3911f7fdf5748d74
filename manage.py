#!/usr/bin/env python
"""Django's commands, and the platform's own. See `manage.py help`.

With no DATABASE_URL or REDIS_URL set, a command uses the embedded servers of a running `make run`, and with
nothing running starts them for its own lifetime.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

# These touch neither database nor broker (or, as run_platform, run the servers themselves).
WITHOUT_SERVERS = {
    "check",
    "collectstatic",
    "compilemessages",
    "diffsettings",
    "findstatic",
    "help",
    "makemessages",
    "makemigrations",
    "run_platform",
    "run_provider_simulator",
    "spectacular",
    "startapp",
    "version",
}


def main(arguments: list[str]) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatplatform.settings")
    from django.core.management import execute_from_command_line

    servers = embedded_servers() if needs_servers(arguments) else []
    if not servers:
        execute_from_command_line(arguments)
        return
    from django.conf import settings

    from chatplatform import embedded
    from chatplatform.embedded import ownership

    # A command that is asked to end has to end its servers too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        with embedded.ensure(settings.DATA_DIR, servers) as found:
            if not found.owner:
                use_port_of(ownership.owners_note(found.where.owner_lock))
            execute_from_command_line(arguments)
    except embedded.Failed as error:
        sys.exit(f"Error: {error}")


def use_port_of(owner: dict[str, Any]) -> None:
    """Make links with the port of the `make run` whose servers these are, unless this command was given one."""
    from django.conf import settings

    if "public_port" in owner and not {"PORT", "PUBLIC_PORT"} & os.environ.keys():
        settings.PUBLIC_PORT = owner["public_port"]


def needs_servers(arguments: list[str]) -> bool:
    command = arguments[1] if len(arguments) > 1 else "help"
    wants_help = {"-h", "--help", "--version"} & set(arguments)
    return command not in WITHOUT_SERVERS and not wants_help


def embedded_servers() -> list[str]:
    """The embedded servers that the settings rely on."""
    from django.conf import settings

    wanted = {"postgres": settings.EMBEDDED_POSTGRES, "valkey": settings.EMBEDDED_VALKEY}
    return [name for name, use in wanted.items() if use]


if __name__ == "__main__":
    main(sys.argv)
