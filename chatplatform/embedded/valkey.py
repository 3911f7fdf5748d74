"""Valkey as a child. It keeps nothing on disk: everything that matters is in PostgreSQL."""

from __future__ import annotations

import os

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from chatplatform.embedded import paths
from chatplatform.embedded.account import Account, private_directory
from chatplatform.embedded.leftovers import stop_leftovers
from chatplatform.embedded.paths import Locations
from chatplatform.embedded.program import Program, Server

NO_RETRY = Retry(NoBackoff(), 0)
OPTIONS = (
    ("--port", "0"),
    ("--unixsocketperm", "700"),
    ("--save", ""),
    ("--appendonly", "no"),
    # The broker must never lose a queued task to make room; whatever may go has a time to live.
    ("--maxmemory-policy", "noeviction"),
    # Its arguments are how a left-over server is recognised.
    ("--set-proc-title", "no"),
    ("--loglevel", "warning"),
)


def server(where: Locations, account: Account) -> Server:
    """The Valkey of a DATA_DIR, ready to be run by its owner."""
    places = ("--dir", str(where.valkey_data), "--unixsocket", str(where.valkey_socket))
    program = Program(
        name="valkey",
        command=(str(paths.valkey_program()), *places, *(part for option in OPTIONS for part in option)),
        environment={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
        directory=where.data_dir,
        account=account,
        grace=1.0,
        before_start=lambda: prepare(where, account),
    )
    return Server(program, answers=lambda: is_ready(where))


def prepare(where: Locations, account: Account) -> None:
    """Make the directories and clear away what a killed run left."""
    private_directory(where.sockets, account)
    private_directory(where.valkey_data, account)
    if where.valkey_socket.exists():
        stop_leftovers("valkey-server", where.valkey_data)
        where.valkey_socket.unlink(missing_ok=True)


def is_ready(where: Locations) -> bool:
    """Whether it answers a PING."""
    client = redis.Redis(unix_socket_path=str(where.valkey_socket), socket_timeout=2, retry=NO_RETRY)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()
