"""Who may open a WebSocket, and who is refused before the handshake ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from django.conf import settings
from redis import Redis
from websockets.exceptions import InvalidStatus

from chatplatform import tenancy
from chatplatform.api.problem import Code, Problem
from chatplatform.testing import cast
from chatplatform.testing.clients import FAST, Caller, Socket, opened
from chatplatform.testing.live import Live
from conversations.services import handshake
from tenants.selectors import TenantState
from tenants.services import configuration
from tenants.vocabulary import Scope

HERE = "acme.localhost"


def refused(live: Live, conversation: str, query: str = "", **headers: str) -> int:
    """The status of a handshake that fails."""
    with pytest.raises(InvalidStatus) as caught, opened(live, conversation, query, headers):
        pass
    return caught.value.response.status_code


def chats(socket: Socket) -> bool:
    socket.say(client_id=str(uuid4()))
    return socket.reply()[-1].kind == "completed"


class Visitor:
    """A browser at a tenant's page: a cookie, a conversation."""

    def __init__(self, live: Live, host: str) -> None:
        self.live, self.host, self.origin = live, host, f"http://{host}:{live.port}"
        page = httpx2.get(f"{live.url}/", headers={"Host": host}, follow_redirects=False)
        self.conversation = page.headers["Location"].rsplit("/", 1)[1]
        self.cookie = page.headers["Set-Cookie"].partition(";")[0]

    def headers(self, **more: str) -> dict[str, str]:
        return {"Host": self.host, "Cookie": self.cookie, "Origin": self.origin, **more}

    def api(self) -> Caller:
        """What the page asks over REST."""
        page = httpx2.get(f"{self.live.url}/c/{self.conversation}", headers=self.headers())
        token = page.cookies["cp_csrf"]
        shown = {"Cookie": f"{self.cookie}; cp_csrf={token}", "X-CSRFToken": token}
        return Caller(self.live, None, **self.headers(Origin=f"http://{self.host}", **shown))

    @contextmanager
    def socket(self, **more: str) -> Iterator[Socket]:
        with opened(self.live, self.conversation, headers=self.headers(**more)) as socket:
            yield socket


@pytest.fixture(scope="module")
def visitor(live: Live) -> Visitor:
    return Visitor(live, HERE)


@pytest.fixture(scope="module")
def conversation(acme_api: Caller) -> str:
    return acme_api.begin()


def ticket(api: Caller, conversation: str, **more: Any) -> str:
    answer = api.post("/ws-tickets", {"conversation_id": conversation, **more})
    assert answer.status_code == 201, answer.text
    return "?ticket=" + str(answer.json()["ticket"])


# --- Keys ------------------------------------------------------------------------------------------------------
def test_a_key_opens_its_tenants_conversations(acme_api: Caller, conversation: str) -> None:
    with acme_api.socket(conversation) as socket:
        assert chats(socket)


@pytest.mark.parametrize("header", ["", "Bearer nonsense", "Basic YTpi"])
def test_without_a_credential_it_is_401(live: Live, conversation: str, header: str) -> None:
    given = {"Authorization": header} if header else {}
    assert refused(live, conversation, **given) == 401


def test_a_key_without_the_scope_is_403(live: Live, conversation: str) -> None:
    key = cast.key("acme", Scope.CONFIG)
    assert refused(live, conversation, Authorization=f"Bearer {key}") == 403


def test_another_tenants_conversation_is_404(live: Live, globex_api: Caller, conversation: str) -> None:
    assert refused(live, conversation, **globex_api.headers) == 404
    assert refused(live, str(uuid4()), **globex_api.headers) == 404


@pytest.mark.parametrize("path", ["nonsense", "", "../x", "00000000-0000-0000-0000-00000000000g"])
def test_another_path_is_404(live: Live, acme_api: Caller, path: str) -> None:
    assert refused(live, path, **acme_api.headers) == 404


def test_a_host_or_a_header_must_not_disagree(live: Live, acme_api: Caller, conversation: str) -> None:
    for wrong in ({"Host": "globex.localhost"}, {"X-Tenant-ID": "globex"}):
        assert refused(live, conversation, **acme_api.headers, **wrong) == 403
    with acme_api.socket(conversation, **{"Host": HERE, "X-Tenant-ID": "acme"}) as socket:
        assert chats(socket)


def test_a_platform_key_names_its_tenant(live: Live, staff_api: Caller, conversation: str) -> None:
    assert refused(live, conversation, **staff_api.headers) == 400
    with staff_api.socket(conversation, **{"X-Tenant-ID": "acme"}) as socket:
        assert chats(socket)


# --- Origins ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "origin",
    ["http://globex.localhost", "https://evil.example", "null", "http://acme.localhost.evil.example", "http://localhost",
     "http://127.0.0.1", "http://xacme.localhost", "file:///x"],
)  # fmt: skip
def test_a_page_from_elsewhere_is_refused(
    live: Live, acme_api: Caller, conversation: str, origin: str
) -> None:
    assert refused(live, conversation, **acme_api.headers, Origin=origin) == 403


@pytest.mark.parametrize(
    "origin", ["", "x", "http://[", "http://", "//", "http://acme.localhost@evil.example", "\x00"]
)
def test_an_origin_that_is_none_is_refused_whatever_the_server_lets_through(
    acme: TenantState, origin: str
) -> None:
    with pytest.raises(Problem) as caught:
        handshake._check_origin(origin, acme, None)
    assert caught.value.code is Code.ORIGIN_NOT_ALLOWED


@pytest.mark.parametrize("origin", ["http://acme.localhost", "https://ACME.localhost:9000"])
def test_a_page_of_the_tenants_own_is_let_in(acme_api: Caller, conversation: str, origin: str) -> None:
    with acme_api.socket(conversation, Origin=origin) as socket:
        assert chats(socket)


def test_a_widget_is_let_in_where_the_tenant_says_so(
    live: Live, acme_api: Caller, globex_api: Caller, conversation: str, committed: None
) -> None:
    acme = cast.state("acme")
    for allowed in (["https://shop.example"], []):
        configuration.change(acme.ref, {"widget_origins": allowed}, author="test", by_staff=True)
        for _ in range(1000):
            try:
                with acme_api.socket(conversation, Origin="https://shop.example") as socket:
                    let_in = chats(socket)
            except InvalidStatus:
                let_in = False
            if let_in == bool(allowed):
                break
        assert let_in == bool(allowed)
    theirs = globex_api.begin()
    assert refused(live, theirs, **globex_api.headers, Origin="https://shop.example") == 403


# --- Tickets ---------------------------------------------------------------------------------------------------
def test_a_ticket_opens_one_socket(live: Live, acme_api: Caller, conversation: str) -> None:
    query = ticket(acme_api, conversation)
    with opened(live, conversation, query) as socket:
        assert chats(socket)
    assert refused(live, conversation, query) == 401


def test_a_ticket_is_used_up_by_a_handshake_that_fails(
    live: Live, acme_api: Caller, conversation: str
) -> None:
    query = ticket(acme_api, conversation)
    assert refused(live, acme_api.begin(), query) == 401
    assert refused(live, conversation, query) == 401


@pytest.mark.parametrize("query", ["?ticket=nonsense", "?ticket=%00", "?ticket=" + "x" * 5000])
def test_a_ticket_that_never_was_is_401(live: Live, acme_api: Caller, conversation: str, query: str) -> None:
    assert refused(live, conversation, query, **acme_api.headers) == 401


def test_a_ticket_expires_after_30_seconds(live: Live, acme_api: Caller, conversation: str) -> None:
    query = ticket(acme_api, conversation)
    with tenancy.in_platform():
        key = tenancy.key("ticket", query.removeprefix("?ticket="))
    with Redis.from_url(settings.EVENT_LOG_URL) as valkey:
        assert 25 < valkey.ttl(key) <= 30
        valkey.pexpire(key, 0)
    assert refused(live, conversation, query) == 401


def test_a_ticket_is_for_the_origin_that_it_names(live: Live, acme_api: Caller, conversation: str) -> None:
    named = {"origin": "https://app.partner.example"}
    with opened(
        live, conversation, ticket(acme_api, conversation, **named), {"Origin": named["origin"]}
    ) as socket:
        assert chats(socket)
    for origin in ("https://evil.example", "https://app.partner.example.evil.example"):
        assert refused(live, conversation, ticket(acme_api, conversation, **named), Origin=origin) == 403
    assert refused(live, conversation, ticket(acme_api, conversation), Origin=named["origin"]) == 403
    # Not even the tenant's own page, or a program that sends none: it is for that one origin.
    assert (
        refused(live, conversation, ticket(acme_api, conversation, **named), Origin=f"http://{HERE}") == 403
    )
    assert refused(live, conversation, ticket(acme_api, conversation, **named)) == 403


def test_an_end_user_does_not_choose_a_tickets_origin(visitor: Visitor) -> None:
    body = {"conversation_id": visitor.conversation}
    for more, status in (({}, 201), ({"origin": "https://evil.example"}, 403)):
        answer = visitor.api().post("/ws-tickets", {**body, **more})
        assert answer.status_code == status, answer.text


def test_a_ticket_does_not_work_on_another_tenants_host(
    live: Live, acme_api: Caller, conversation: str
) -> None:
    assert refused(live, conversation, ticket(acme_api, conversation), Host="globex.localhost") == 403


def test_tickets_are_for_conversations_that_exist(acme_api: Caller, globex_api: Caller) -> None:
    for body, status in (
        ({"conversation_id": globex_api.begin()}, 404),
        ({"conversation_id": str(uuid4())}, 404),
        ({"conversation_id": "x"}, 422),
        ({}, 422),
        ({"conversation_id": acme_api.begin(), "origin": "shop"}, 422),
        ({"conversation_id": acme_api.begin(), "origin": 5}, 422),
    ):
        assert acme_api.post("/ws-tickets", body).status_code == status


def test_a_visitors_ticket_stays_a_visitors(live: Live, visitor: Visitor, acme_api: Caller) -> None:
    """It must not become a key's: a visitor sees its own conversations alone."""
    query = ticket(acme_api, visitor.conversation)
    with opened(live, visitor.conversation, query) as socket:
        assert chats(socket)


# --- Visitors --------------------------------------------------------------------------------------------------
def test_a_visitor_chats_on_the_tenants_own_page(visitor: Visitor) -> None:
    with visitor.socket() as socket:
        assert chats(socket)


def test_a_cookie_is_good_on_its_own_tenants_host_alone(live: Live, visitor: Visitor) -> None:
    for host in ("globex.localhost", "localhost", "127.0.0.1"):
        headers = visitor.headers(Host=host, Origin=f"http://{host}")
        assert refused(live, visitor.conversation, **headers) == 401


def test_a_cookie_needs_an_origin_and_the_right_one(live: Live, visitor: Visitor) -> None:
    without = {name: value for name, value in visitor.headers().items() if name != "Origin"}
    assert refused(live, visitor.conversation, **without) == 401
    for origin in ("https://evil.example", "http://globex.localhost", "null"):
        headers = visitor.headers(Origin=origin)
        assert refused(live, visitor.conversation, **headers) == 403


def test_a_visitor_sees_its_own_conversations_alone(live: Live, visitor: Visitor, acme_api: Caller) -> None:
    other = Visitor(live, HERE)
    assert other.conversation != visitor.conversation
    for conversation in (other.conversation, acme_api.begin(FAST)):
        assert refused(live, conversation, **visitor.headers()) == 404


@pytest.mark.parametrize(
    "cookie", ["cp_visitor=", "cp_visitor=x", "cp_visitor=a:b:c", "=;=", "cp_visitor=\xe9", ";" * 100]
)
def test_a_cookie_that_was_touched_is_401(live: Live, visitor: Visitor, cookie: str) -> None:
    assert refused(live, visitor.conversation, **visitor.headers(Cookie=cookie)) == 401
