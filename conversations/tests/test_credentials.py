"""End users' tokens at work: what they open, and how everything that they opened ends with them."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from django.conf import settings
from django.utils import timezone
from websockets.exceptions import InvalidStatus

from chatplatform import tenancy
from chatplatform.api.problem import Code
from chatplatform.testing import cast
from chatplatform.testing.backend import Pair, pair, running_key_server, signed
from chatplatform.testing.clients import FAST, SILENT, Caller, opened
from chatplatform.testing.live import Live
from conversations import sockets
from conversations.models import Conversation
from tenants import selectors
from tenants.auth import standing
from tenants.auth.principal import Principal
from tenants.models import ApiKey, Contact, SigningKey, TokenIssuer
from tenants.selectors import TenantState
from tenants.services import api_keys, signing_keys, token_issuers
from tenants.services.tokens import LONGEST
from tenants.vocabulary import Scope

SHOP = "https://live-shop.example"
BACKEND = pair("ES256", "live")
PROMISE = 5.0  # s within which a revocation is in force everywhere


@pytest.fixture
def shop(live: Live, committed: None) -> Iterator[TokenIssuer]:
    """Acme's shop, registered with its key."""
    with tenancy.in_platform():
        TokenIssuer.objects.filter(issuer=SHOP).delete()
    acme = cast.state("acme").ref
    row = token_issuers.register(acme, str(uuid4()), SHOP, public_key=BACKEND.pem)
    yield row
    with tenancy.in_platform():
        still = TokenIssuer.objects.filter(pk=row.pk).exists()
    if still:
        token_issuers.remove(acme, row.pk)


def ticket_for(sub: str, key: Pair = BACKEND, **claims: Any) -> str:
    return signed(key, SHOP, "acme", sub, **claims)


def token(api: Caller, end_user: Any = "ada", **more: Any) -> dict[str, Any]:
    answer = api.post("/tokens", {"end_user": end_user, **more})
    assert answer.status_code == 201, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    found: dict[str, Any] = answer.json()
    return found


def refused(live: Live, conversation: str, query: str = "", **headers: str) -> int:
    """The status of a handshake that fails."""
    with pytest.raises(InvalidStatus) as caught, opened(live, conversation, query, headers):
        pass
    return caught.value.response.status_code


# --- Asking for one --------------------------------------------------------------------------------------------
def test_a_backend_gets_its_browser_a_token(live: Live, acme_api: Caller) -> None:
    got = token(acme_api, {"external_id": "ada", "name": "Ada"}, expires_in=600)
    assert set(got) == {"token", "token_type", "expires_in", "scope"}
    assert (got["token_type"], got["expires_in"], got["scope"]) == ("Bearer", 600, "chat")
    ada = Caller(live, got["token"])
    conversation = ada.begin(None)
    assert ada.get(f"/conversations/{conversation}").json()["end_user"] == {
        "external_id": "ada",
        "name": "Ada",
    }
    assert ada.ask(conversation)["reply"]["status"] == "completed"
    with ada.socket(conversation) as socket:
        socket.say()
        assert socket.reply()[-1].kind == "completed"
    assert ada.get("/conversations").json()["results"][0]["id"] == conversation


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"end_user": None}, 422),
        ({"end_user": ""}, 422),
        ({"end_user": "a\nb"}, 422),
        ({"end_user": {"name": "x"}}, 422),
        ({"end_user": "ada", "scope": "config"}, 422),
        ({"end_user": "ada", "scope": "chat platform"}, 422),
        ({"end_user": "ada", "scope": ""}, 422),
        ({"end_user": "ada", "expires_in": 59}, 422),
        ({"end_user": "ada", "expires_in": LONGEST + 1}, 422),
        ({"end_user": "ada", "expires_in": "1h"}, 422),
    ],
)
def test_what_no_token_is_made_for(acme_api: Caller, body: dict[str, Any], status: int) -> None:
    assert acme_api.post("/tokens", body).status_code == status


def test_staff_ask_for_a_named_tenant(staff_api: Caller) -> None:
    assert staff_api.post("/tokens", {"end_user": "ada"}).status_code == 400
    named = {"X-Tenant-ID": "acme"}
    assert staff_api.post("/tokens", {"end_user": "ada"}, headers=named).status_code == 201


# --- What it opens ---------------------------------------------------------------------------------------------
def test_an_end_user_sees_its_own_talks_and_chooses_nothing(live: Live, acme_api: Caller) -> None:
    ada, bob = (Caller(live, token(acme_api, name)["token"]) for name in ("ada", "bob"))
    conversation = ada.begin(None)
    path = f"/conversations/{conversation}"
    for answer in (bob.get(path), bob.get(f"{path}/messages"), bob.post(f"{path}/rating", {"stars": 1})):
        assert answer.status_code == 404
    assert conversation not in str(bob.get("/conversations").json())
    assert ada.post("/conversations", {"model": FAST}).status_code == 403
    assert ada.post("/conversations", {"end_user": "bob"}).status_code == 403
    assert ada.post(f"{path}/resolve").status_code == 403


NOTHING = "01890000-0000-7000-8000-00000000dead"
CLOSED = [
    ("POST", "/tokens"), ("POST", "/tenants"), ("GET", "/tenants/acme"), ("GET", "/tenants/acme/usage"),
    ("GET", "/tenants/acme/config"), ("PATCH", "/tenants/acme/config"), ("GET", "/tenants/acme/api-keys"),
    ("GET", "/tenants/acme/api-keys/x"), ("DELETE", "/tenants/acme/api-keys/x"),
    ("POST", "/tenants/acme/api-keys/x/rotate"), ("DELETE", "/tenants/acme/contacts/ada"),
    ("GET", "/tenants/acme/token-issuers"), ("POST", "/tenants/acme/token-issuers"),
    ("GET", f"/tenants/acme/token-issuers/{NOTHING}"), ("DELETE", f"/tenants/acme/token-issuers/{NOTHING}"),
    ("GET", "/usage/daily"), ("GET", "/invoices"), ("GET", f"/invoices/{NOTHING}"),
]  # fmt: skip


def test_whatever_is_not_for_end_users_is_tried(live: Live) -> None:
    document = httpx2.get(f"{live.api}/schema", headers={"Accept": "application/vnd.oai.openapi+json"}).json()
    closed = {
        call["operationId"]: (method.upper(), path)
        for path, calls in document["paths"].items()
        for method, call in calls.items()
        if "for end users" not in call["description"]
    }
    tried = [
        (method, re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path))))
        for method, path in closed.values()
    ]
    for method, pattern in tried:
        assert any(pattern.fullmatch(f"/api/v1{path}") for verb, path in CLOSED if verb == method), pattern
    assert len(tried) == len(CLOSED)


@pytest.mark.parametrize(("method", "path"), CLOSED)
def test_what_is_for_backends_is_closed_to_end_users(
    live: Live, shop: TokenIssuer, method: str, path: str
) -> None:
    everything = " ".join(Scope.values)
    ada = Caller(live, ticket_for("ada", scope=everything))
    answer = ada.http.request(method, path, json={} if method != "GET" else None)
    assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed")
    assert ada.get("/conversations").status_code == 200


def test_the_credential_decides_the_tenant(live: Live, acme_api: Caller, shop: TokenIssuer) -> None:
    for one in (token(acme_api)["token"], ticket_for("ada")):
        for headers, status in (
            ({}, 200),
            ({"X-Tenant-ID": "acme"}, 200),
            ({"Host": "acme.localhost"}, 200),
            ({"X-Tenant-ID": "globex"}, 403),
            ({"Host": "globex.localhost"}, 403),
        ):
            answer = Caller(live, one).get("/conversations", headers=headers)
            assert answer.status_code == status
            if status == 403:
                assert answer.json()["code"] == Code.TENANT_MISMATCH


def test_a_refusal_says_why_and_that_it_is_the_token(live: Live) -> None:
    answer = Caller(live, "a.b.c").get("/conversations")
    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")
    assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


def test_a_contact_that_was_erased_begins_nothing(live: Live, shop: TokenIssuer) -> None:
    ada = Caller(live, ticket_for("gone"))
    assert ada.get("/conversations").status_code == 200
    with tenancy.in_tenant(cast.state("acme").ref):
        Contact.objects.get(external_id="gone").delete()
    assert ada.post("/conversations").status_code == 401


def test_the_published_keys_may_be_kept_for_a_while(live: Live, acme_api: Caller) -> None:
    token(acme_api)
    for host in ("127.0.0.1", "localhost", "acme.localhost", "unknown.example"):
        answer = httpx2.get(f"{live.url}/.well-known/jwks.json", headers={"Host": host})
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "public, max-age=300"
        assert answer.headers["Content-Type"].startswith("application/json")
        assert len(answer.json()["keys"]) >= 2


def test_keys_at_an_address_are_found_by_every_door(live: Live, committed: None) -> None:
    """A view that waits without a thread, one with a thread, and a socket: each comes first once."""
    acme = cast.state("acme").ref
    settings_before, settings.ALLOW_PRIVATE_KEY_SERVERS = settings.ALLOW_PRIVATE_KEY_SERVERS, True
    try:
        with running_key_server(BACKEND) as server:
            for number, come in enumerate(DOORS):
                issuer = f"https://door-{number}.example"
                row = token_issuers.register(acme, str(uuid4()), issuer, jwks_url=server.url)
                come(Caller(live, signed(BACKEND, issuer, "acme", "ada")))
                token_issuers.remove(acme, row.pk)
            assert server.asked == 2 * len(DOORS)
    finally:
        settings.ALLOW_PRIVATE_KEY_SERVERS = settings_before


def _by_thread(caller: Caller) -> None:
    assert caller.get("/conversations").status_code == 200


def _by_loop(caller: Caller) -> None:
    assert caller.get(f"/conversations/{uuid4()}/messages").status_code == 404


def _by_socket(caller: Caller) -> None:
    assert refused(caller.live, str(uuid4()), **caller.headers) == 404


DOORS: list[Callable[[Caller], None]] = [_by_thread, _by_loop, _by_socket]


# --- How all ends ----------------------------------------------------------------------------------------------
def test_sockets_and_streams_end_with_what_they_stand_on(
    live: Live, acme_api: Caller, shop: TokenIssuer, committed: None
) -> None:
    """Of two end users one loses its credential: its sockets (by header, by ticket) close 4401, its stream ends."""
    backend = Caller(live, cast.key("acme", Scope.CHAT))
    assert backend.key is not None
    acme = cast.state("acme").ref
    ends: dict[str, Callable[[], object]] = {
        token(backend, "one")["token"]: lambda: api_keys.revoke(str(backend.key).split("_")[2]),
        ticket_for("two"): lambda: token_issuers.remove(acme, shop.pk),
    }
    stays = Caller(live, token(acme_api, "stays")["token"])
    for credential, end in ends.items():
        goes = Caller(live, credential)
        with ExitStack() as stack:
            held = {who: hold(stack, who) for who in (goes, stays)}
            end()
            for socket in held[goes][:2]:
                assert socket.close_code() == 4401
            assert list(held[goes][2]) == [], "the stream ends, without a last event"
            answer = goes.get("/conversations")
            assert (answer.status_code, answer.json()["detail"]) == (
                401,
                "What the token rests on was revoked.",
            )
            for socket in held[stays][:2]:
                assert socket.echo()


def hold(stack: ExitStack, who: Caller) -> tuple[Any, Any, Any]:
    """A socket by header, a socket by ticket, and a stream that is silent for long."""
    conversation = who.begin(None)
    issued = who.post("/ws-tickets", {"conversation_id": conversation}).json()
    by_header = stack.enter_context(who.socket(conversation))
    by_ticket = stack.enter_context(opened(who.live, conversation, f"?ticket={issued['ticket']}"))
    with tenancy.in_tenant(cast.state("acme").ref):
        Conversation.objects.filter(pk=conversation).update(model=SILENT)
    events = stack.enter_context(who.streaming(conversation))
    assert next(events).kind == "accepted"
    return by_header, by_ticket, events


def test_a_token_that_expires_takes_its_socket_along(live: Live, shop: TokenIssuer) -> None:
    # Good for 2 s more: clocks may differ by 10 s.
    ada = Caller(live, ticket_for("ada", exp=int(time.time()) + 2 - signing_keys.LEEWAY))
    with ada.socket(ada.begin(None)) as socket:
        assert socket.close_code() == 4401
    assert "expired" in ada.get("/conversations").json()["detail"]


def test_a_ticket_is_worth_no_more_than_what_it_was_issued_for(live: Live, committed: None) -> None:
    backend = Caller(live, cast.key("acme", Scope.CHAT))
    conversation = backend.begin()
    issued = backend.post("/ws-tickets", {"conversation_id": conversation}).json()["ticket"]
    api_keys.revoke(str(backend.key).split("_")[2])
    until(lambda: backend.get("/conversations").status_code == 401)
    assert refused(live, conversation, f"?ticket={issued}") == 401


def test_without_the_control_bus_it_takes_less_than_five_seconds(
    live: Live, shop: TokenIssuer, committed: None
) -> None:
    """Written straight to the database, so that nobody is told: what processes keep runs out by itself."""
    key = Caller(live, cast.key("acme", Scope.CHAT))
    theirs, ours = Caller(live, ticket_for("eve")), Caller(live, token(key)["token"])
    callers = (key, theirs, ours)
    assert [who.get("/conversations").status_code for who in callers] == [200] * 3
    with tenancy.in_platform():
        ApiKey.objects.filter(public_id=str(key.key).split("_")[2]).update(revoked_at=timezone.now())
        TokenIssuer.objects.filter(pk=shop.pk).delete()
    began = time.monotonic()
    until(lambda: [who.get("/conversations").status_code for who in callers] == [401] * 3)
    assert time.monotonic() - began < PROMISE


def test_what_is_kept_is_kept_for_less_than_that() -> None:
    kept = [cache.ttl for cache in (token_issuers._kept, signing_keys._published, signing_keys._signer)]
    kept += [cache.seconds for cache in (api_keys._kept, selectors._states)]
    assert max(kept) + sockets.EVERY <= PROMISE


class Held:
    """Something that a caller has open."""

    def __init__(self, tenant: TenantState, thing: str, expires_at: float | None = None) -> None:
        self.principal = Principal("x", frozenset(), tenant, rests_on=(thing,), expires_at=expires_at)
        self.code = 0

    async def close(self, code: int) -> None:
        self.code = code


async def test_what_many_stand_on_is_asked_once(acme: TenantState, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def holds(thing: str) -> bool:
        asked.append(thing)
        return thing != "key:bad"

    late = [Held(acme, "key:good", time.time() - 1) for _ in range(1000)]
    good = [Held(acme, "key:good", time.time() + 60) for _ in range(1000)]
    bad = [Held(acme, "key:bad") for _ in range(1000)]
    monkeypatch.setattr(standing, "holds", holds)
    monkeypatch.setattr(sockets, "streams", {*late, *good, *bad})
    await sockets._look()
    assert sorted(asked) == ["key:bad", "key:good", f"tenant:{acme.ref.id}"]
    assert {one.code for one in (*late, *bad)} == {4401}
    assert {one.code for one in good} == {0}


def until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- Rotated while in use --------------------------------------------------------------------------------------
def test_no_request_fails_while_every_kind_of_key_is_rotated(live: Live, committed: None) -> None:
    """API keys, the platform's signing keys and a backend's own, each changed three times under steady requests."""
    acme = cast.state("acme").ref
    settings_before, settings.ALLOW_PRIVATE_KEY_SERVERS = settings.ALLOW_PRIVATE_KEY_SERVERS, True
    with ExitStack() as stack:
        stack.callback(setattr, settings, "ALLOW_PRIVATE_KEY_SERVERS", settings_before)
        server = stack.enter_context(running_key_server(pair("ES256", "turn-0")))
        issuer = "https://turning.example"
        row = token_issuers.register(acme, str(uuid4()), issuer, jwks_url=server.url)
        stack.callback(token_issuers.remove, acme, row.pk)
        now = {"key": cast.key("acme", Scope.CHAT), "pair": pair("ES256", "turn-0")}
        stop, seen, failed = threading.Event(), {"key": 0, "ours": 0, "theirs": 0}, []

        def go_on(kind: str, credential: Callable[[httpx2.Client], str]) -> None:
            with httpx2.Client(base_url=live.api) as http:
                while not stop.is_set():
                    headers = {"Authorization": f"Bearer {credential(http)}"}
                    answer = http.get("/conversations", headers=headers)
                    seen[kind] += 1
                    if answer.status_code != 200:
                        failed.append((kind, answer.status_code, answer.text))

        def ours(http: httpx2.Client) -> str:
            headers = {"Authorization": f"Bearer {now['key']}"}
            got = http.post("/tokens", json={"end_user": "ada"}, headers=headers)
            return str(got.json().get("token", got.text))

        threads = stack.enter_context(ThreadPoolExecutor(3))
        running = [
            threads.submit(go_on, "key", lambda _: str(now["key"])),
            threads.submit(go_on, "ours", ours),
            threads.submit(go_on, "theirs", lambda _: signed(now["pair"], issuer, "acme", "ada")),  # type: ignore[arg-type]
        ]
        kids = set()
        try:
            for turn in range(1, 4):
                before = dict(seen)
                until(lambda before=before: all(seen[kind] > before[kind] + 3 for kind in seen))  # type: ignore[misc]
                _, _, now["key"] = api_keys.rotate(str(now["key"]).split("_")[2], timedelta(minutes=5))
                publish_next_long_ago()
                kids.add(signing_keys.rotate().current)
                server.keys.append(pair("ES256", f"turn-{turn}").jwk)
                if turn == 1:  # the next ones were published well before they sign
                    now["pair"] = pair("ES256", "turn-1")
        finally:
            stop.set()
        for one in running:
            one.result()
    assert failed == []
    assert len(kids) == 3


def publish_next_long_ago() -> None:
    with tenancy.in_platform():
        for key in SigningKey.objects.filter(state="next"):
            key.published_at -= signing_keys.PUBLISHED_FOR
            key.save(update_fields=["published_at"])
