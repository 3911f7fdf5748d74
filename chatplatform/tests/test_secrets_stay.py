"""Keys, tokens, passwords and what people write are in no log line and in no error report."""

from __future__ import annotations

import gzip
import io
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import sentry_sdk
from django.conf import settings
from django.test import Client, override_settings

from chatplatform.observability import logging as ours
from chatplatform.observability import sentry
from chatplatform.observability.secrets import HIDDEN, hidden
from chatplatform.testing import cast
from conversations.services import turns
from tenants.selectors import TenantState

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


def test_an_error_tells_where_and_nothing_of_what(
    acme: TenantState, reports: list[str], lines: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = cast.key("acme")

    def fail(principal: Any, conversation_id: Any, content: str, **more: Any) -> None:
        assert content == PROMPT
        raise RuntimeError(f"{DATABASE} {key} {JWT} {PROVIDER} {settings.AUDIT_SECRET}\nDETAIL: {content}")

    monkeypatch.setattr(turns, "accept", fail)
    client = Client(
        headers={"host": "acme.localhost", "authorization": f"Bearer {key}", "cookie": f"cp_visitor={JWT}"},
        raise_request_exception=False,
    )
    conversation = client.post("/api/v1/conversations", {}, content_type="application/json").json()["id"]
    path = f"/api/v1/conversations/{conversation}/messages?token={PROMPT}"
    answer = client.post(path, {"content": PROMPT}, content_type="application/json")
    sentry_sdk.flush(2)
    report, logged, shown = "\n".join(reports), lines.getvalue(), answer.content.decode()
    assert answer.status_code == 500
    assert "RuntimeError" in report and "RuntimeError" in logged
    secrets = (key, key[-38:], JWT, PROVIDER, "canarypassword", settings.AUDIT_SECRET, settings.SECRET_KEY)
    for secret in secrets:
        for place in (report, logged, shown):
            assert secret not in place
    assert PROMPT not in report and PROMPT not in shown


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
