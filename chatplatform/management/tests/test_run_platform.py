"""What `make run` prints and remembers, and where it refuses to start. No server is needed for any of it."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

import manage
from chatplatform import pool
from chatplatform.embedded import ownership
from chatplatform.embedded.paths import locations
from chatplatform.embedded.servers import definitions, own
from chatplatform.management import processes
from chatplatform.management.commands.run_platform import STOP_ORDER
from chatplatform.management.run_file import KEYS, RunFile

FACTS = {key: f"the {key}" for key in reversed(KEYS)}


def test_the_run_file_is_private_and_in_the_printed_order(tmp_path: Path) -> None:
    file = RunFile(tmp_path)
    assert list(file.update({**FACTS, "tenant": "demo"})) == list(KEYS)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


def test_a_secret_that_is_shown_once_is_remembered(tmp_path: Path) -> None:
    RunFile(tmp_path).update(FACTS)
    later = RunFile(tmp_path).update({"chat": "elsewhere"})
    assert later == {**FACTS, "chat": "elsewhere"}


def test_a_damaged_run_file_is_written_anew(tmp_path: Path) -> None:
    file = RunFile(tmp_path)
    file.path.write_text('{"chat": "ha')
    assert file.update(FACTS) == FACTS


def test_a_busy_port_is_an_error_that_says_what_to_do(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        settings.HOST, settings.PORT = other.getsockname()
        message = f"port {settings.PORT} on 127.0.0.1 is already in use"
        with pytest.raises(CommandError, match=message):
            call_command("run_platform")


def test_a_free_port_is_none() -> None:
    assert processes.port_problem("127.0.0.1", 0) is None


def test_what_is_no_port_and_no_address_is_named() -> None:
    assert "is not a port" in (processes.port_problem("127.0.0.1", 70000) or "")
    assert "cannot listen on 192.0.2.1" in (processes.port_problem("192.0.2.1", 0) or "")


@pytest.mark.parametrize(
    ("scheme", "domain", "port", "chat", "api"),
    [
        ("http", "localhost", 8000, "http://demo.localhost:8000/", "http://127.0.0.1:8000/api/v1"),
        ("https", "chat.example", 443, "https://demo.chat.example/", "https://chat.example/api/v1"),
    ],
)
def test_urls_follow_scheme_domain_and_port(
    settings: Settings, scheme: str, domain: str, port: int, chat: str, api: str
) -> None:
    settings.PUBLIC_SCHEME, settings.PLATFORM_DOMAIN, settings.PUBLIC_PORT = scheme, domain, port
    urls = processes.urls()
    assert (urls["chat"], urls["api"]) == (chat, api)


def test_a_command_beside_it_makes_links_with_its_port(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lock = own(locations(tmp_path), public_port=9123)
    note = ownership.owners_note(locations(tmp_path).owner_lock)
    lock.release()
    monkeypatch.delenv("PORT", raising=False)
    monkeypatch.delenv("PUBLIC_PORT", raising=False)
    manage.use_port_of(note)
    assert processes.urls()["chat"] == "http://demo.localhost:9123/"
    manage.use_port_of({"pid": 1, "command": "manage.py shell"})
    assert settings.PUBLIC_PORT == 9123, "who is no platform has no port"
    monkeypatch.setenv("PORT", "9000")
    settings.PUBLIC_PORT = 9000
    manage.use_port_of(note)
    assert settings.PUBLIC_PORT == 9000, "what was asked for"


def test_the_web_server_is_the_one_that_was_chosen(settings: Settings) -> None:
    settings.ASGI_SERVER = "uvicorn"
    assert "chatplatform.uvicorn_server" in processes.web().command
    settings.ASGI_SERVER = "daphne"
    assert "chatplatform.daphne_server" in processes.web().command


def test_everything_is_killed_within_ten_seconds_at_the_latest(settings: Settings) -> None:
    programs = [processes.web(), processes.worker(), processes.beat()]
    programs += [server.program for server in definitions(locations(settings.DATA_DIR))]
    grace = {program.name: program.grace for program in programs}
    assert {name for stage in STOP_ORDER for name in stage} == grace.keys()
    assert sum(max(grace[name] for name in stage) for stage in STOP_ORDER) < 10


def test_whoever_ends_by_itself_is_given_the_time_for_it() -> None:
    assert processes.worker().grace > float(processes.WORKER_GRACE) + pool.ENDS_WITHIN
    assert processes.web().grace > float(processes.WEB_DRAIN)
