"""Keys, tokens, passwords and what people write are in no log line and in no error report."""

from __future__ import annotations

import gzip
import io
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
import sentry_sdk
from django.conf import settings
from django.test import Client, override_settings

from chatplatform.observability import logging as ours
from chatplatform.observability import sentry
from chatplatform.observability.secrets import HIDDEN, hidden
from chatplatform.testing import cast
from conversations.services import generation, turns
from tenants.selectors import TenantState
from tenants.services import member_sessions
from tenants.tests import people
from tenants.tests.people import Desk, member

PROMPT = "canaryprompt7f3a"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJl"
PROVIDER = "sk-canaryprovider0123456789"
DATABASE = "postgresql://cp_app:canarypassword@db.example/cp"


@pytest.fixture
def reports() -> Iterator[list[str]]:
    """What a server that stands in for Sentry's is sent."""
    got: list[str] = []

    class Sentry(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Sentry) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with override_settings(SENTRY_DSN=f"http://public@127.0.0.1:{server.server_port}/1"):
            sentry.start()
        yield got
        sentry_sdk.get_client().close(timeout=2)
        sentry_sdk.get_global_scope().set_client(None)
        server.shutdown()


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What is logged, as the platform formats it."""
    root, said = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    ours.configure({"level": "DEBUG", "format": "json"})
    for handler in root.handlers:
        assert isinstance(handler, logging.StreamHandler)
        handler.setStream(said)
    yield said
    root.handlers[:] = handlers
    root.setLevel(level)


def failing(*secrets: str) -> Any:
    """A function that raises with secrets in the first line of its error, and what was written in the second."""

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError(f"{' '.join(secrets)}\nDETAIL: {PROMPT}")

    return fail


def test_a_message_that_fails_tells_where_and_nothing_of_what(
    acme: TenantState, reports: list[str], lines: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = cast.key("acme")
    secrets = (key, JWT, PROVIDER, DATABASE, settings.AUDIT_SECRET)
    monkeypatch.setattr(turns, "accept_here", failing(*secrets))
    client = Client(
        headers={"host": "acme.localhost", "authorization": f"Bearer {key}", "cookie": f"cp_visitor={JWT}"},
        raise_request_exception=False,
    )
    conversation = client.post("/api/v1/conversations", {}, content_type="application/json").json()["id"]
    path = f"/api/v1/conversations/{conversation}/messages?token={PROMPT}"
    answer = client.post(path, {"content": PROMPT}, content_type="application/json")
    assert answer.status_code == 500
    parts = (key[-38:], "canarypassword", settings.SECRET_KEY)
    says_nothing(reports, lines, PROMPT, *secrets, *parts, shown=answer.content.decode())


def test_a_sign_in_that_fails_tells_nothing(
    acme: TenantState, reports: list[str], lines: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(member_sessions, "start", failing(settings.SECRET_KEY))
    member(acme)
    desk = Desk(acme, raise_request_exception=False)
    desk.client.cookies["__Host-cp_member"] = PROMPT
    answer = desk.sign_in("owner@example.com")
    assert answer.status_code == 500
    said = (PROMPT, people.PASSWORD, settings.SECRET_KEY, "owner@example.com")
    says_nothing(reports, lines, *said, shown=answer.content.decode())


async def test_a_turn_that_fails_tells_nothing(
    reports: list[str], lines: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "prepare", failing(PROVIDER))
    begun: Any = SimpleNamespace(
        reply=SimpleNamespace(pk=1, attempt=1), said=PROMPT, knows=[PROMPT], held=None
    )
    writer: Any = SimpleNamespace(start=lambda reason: None, text=PROMPT)
    hold: Any = SimpleNamespace(stopped=None)
    outcome = await generation._attempt(begun, writer, hold)
    assert outcome.status == "failed"
    says_nothing(reports, lines, PROMPT, PROVIDER, shown=outcome.error_detail)


def says_nothing(reports: list[str], lines: io.StringIO, *secrets: str, shown: str) -> None:
    """The error is reported, logged and shown; the secrets are not."""
    sentry_sdk.flush(2)
    report, logged = "\n".join(reports), lines.getvalue()
    assert "RuntimeError" in report and "RuntimeError" in logged and "in fail" in logged
    for secret in secrets:
        for place in (report, logged, shown):
            assert secret not in place


@pytest.mark.parametrize("texts", [True, False])
def test_what_an_error_says_is_reported_where_that_was_asked_for(
    reports: list[str], texts: bool, settings: Any
) -> None:
    settings.SENTRY_ERROR_TEXTS = texts
    try:
        failing(words := "-".join("abc"), PROVIDER)()
    except RuntimeError as error:
        sentry_sdk.capture_exception(error)
    sentry_sdk.flush(2)
    [report] = reports
    assert (words in report) is texts
    assert PROVIDER not in report and PROMPT not in report


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("redis://:pass@host/0", f"redis://{HIDDEN}@host/0"),
        ("Authorization: Bearer abcdefghij", f"Authorization: Bearer {HIDDEN}"),
        ("/console/join?token=abc:def&x=1", f"/console/join?token={HIDDEN}&x=1"),
        ("the bearer of news, key events, sk-etch", "the bearer of news, key events, sk-etch"),
        ("http://localhost:8000/a@b", "http://localhost:8000/a@b"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str, wanted: str) -> None:
    assert hidden(text) == wanted
