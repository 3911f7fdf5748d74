"""Two tenants with equal primary keys and different content, through every door."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from redis import Redis

from chatplatform import tenancy
from chatplatform.testing import cast
from chatplatform.testing.clients import Caller, text_of
from conversations.models import Conversation, Message, Reply
from conversations.services import tickets
from conversations.tests.shapes import check_problem
from conversations.vocabulary import ReplyStatus, Role
from tenants.auth.principal import Principal
from tenants.selectors import TenantState

CONVERSATION = "01900000-0000-7000-8000-0000000000c0"
SAID = "01900000-0000-7000-8000-0000000000c1"
ANSWER = "01900000-0000-7000-8000-0000000000c2"
SLUGS = ("acme", "globex")


def content(slug: str) -> str:
    return f"The secret of {slug}"


def make_twin(tenant: TenantState) -> None:
    """A conversation with one finished turn; its keys are the same in every tenant, its text is not."""
    slug = tenant.ref.slug
    conversation = Conversation.objects.create(pk=CONVERSATION, metadata={"of": slug})
    said = Message.objects.create(
        pk=SAID, conversation=conversation, role=Role.USER, content=f"Question of {slug}"
    )
    answer = Message.objects.create(
        pk=ANSWER, conversation=conversation, role=Role.ASSISTANT, content=content(slug)
    )
    Reply.objects.create(
        message=answer, user_message=said, conversation=conversation, status=ReplyStatus.COMPLETED,
        completed_at=answer.created_at,
    )  # fmt: skip


@pytest.fixture(scope="module")
def both(
    acme_api: Caller, globex_api: Caller, django_db_blocker: pytest.FixtureRequest
) -> Iterator[dict[str, Caller]]:
    """Both tenants' callers, each with the twin conversation."""
    with django_db_blocker.unblock():  # type: ignore[attr-defined]
        tenants = [cast.state(slug) for slug in SLUGS]
        for tenant in tenants:
            with tenancy.in_tenant(tenant.ref):
                make_twin(tenant)
        yield {"acme": acme_api, "globex": globex_api}
        for tenant in tenants:
            with tenancy.in_tenant(tenant.ref):
                Conversation.objects.filter(pk=CONVERSATION).delete()


@pytest.mark.parametrize("slug", SLUGS)
def test_over_rest_each_sees_its_own(both: dict[str, Caller], slug: str) -> None:
    api = both[slug]
    assert api.get(f"/conversations/{CONVERSATION}").json()["metadata"] == {"of": slug}
    messages = api.get(f"/conversations/{CONVERSATION}/messages").json()["results"]
    assert [message["content"] for message in messages] == [f"Question of {slug}", content(slug)]
    assert api.reply(CONVERSATION, ANSWER)["content"] == content(slug)


@pytest.mark.parametrize("slug", SLUGS)
def test_over_sse_each_reads_its_own(both: dict[str, Caller], slug: str) -> None:
    assert text_of(both[slug].events(CONVERSATION, ANSWER)) == content(slug)


@pytest.mark.parametrize("slug", SLUGS)
def test_over_websocket_each_resumes_its_own(both: dict[str, Caller], slug: str) -> None:
    with both[slug].socket(CONVERSATION) as socket:
        socket.send(type="resume", reply_id=ANSWER)
        assert text_of(socket.reply()) == content(slug)


def test_writing_to_one_twin_leaves_the_other(both: dict[str, Caller]) -> None:
    acme, globex = both["acme"], both["globex"]
    feedback = f"/conversations/{CONVERSATION}/messages/{ANSWER}/feedback"
    assert acme.post(feedback, {"rating": "down"}).status_code == 200
    assert acme.post(f"/conversations/{CONVERSATION}/resolve").json()["status"] == "resolved"
    assert globex.get(f"/conversations/{CONVERSATION}").json()["status"] == "open"


def test_events_of_equal_conversations_do_not_meet(both: dict[str, Caller]) -> None:
    """Two sockets of one process in conversations with one id: a turn in Acme's is not told to Globex's."""
    with both["acme"].socket(CONVERSATION) as ours, both["globex"].socket(CONVERSATION) as theirs:
        both["acme"].ask(CONVERSATION, "Only for Acme")
        assert any("Only for Acme" in str(frame) for frame in ours.until("completed"))
        theirs.send(type="ping")
        assert theirs.receive()["type"] == "error"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/conversations/{c}", None),
        ("GET", "/conversations/{c}/messages", None),
        ("POST", "/conversations/{c}/messages", {"content": "Hello"}),
        ("POST", "/conversations/{c}/messages", {"content": "Hello", "stream": True}),
        ("GET", "/conversations/{c}/replies/{r}", None),
        ("GET", "/conversations/{c}/replies/{r}/events", None),
        ("POST", "/conversations/{c}/replies/{r}/cancel", {}),
        ("POST", "/conversations/{c}/messages/{r}/feedback", {"rating": "up"}),
        ("POST", "/conversations/{c}/rating", {"stars": 5}),
        ("POST", "/conversations/{c}/resolve", {}),
        ("POST", "/conversations/{c}/escalate", {}),
        ("GET", "/conversations/{own}/replies/{r}", None),
        ("GET", "/conversations/{own}/replies/{r}/events", None),
        ("POST", "/conversations/{own}/replies/{r}/cancel", {}),
        ("POST", "/conversations/{own}/messages/{r}/feedback", {"rating": "up"}),
        ("GET", "/tenants/globex", None),
        ("GET", "/tenants/globex/usage", None),
        ("GET", "/tenants/globex/config", None),
    ],
)
def test_what_belongs_to_another_tenant_is_not_found(
    acme_api: Caller, theirs: tuple[str, str], method: str, path: str, body: Any
) -> None:
    conversation, reply = theirs
    url = path.format(c=conversation, r=reply, own=acme_api.begin())
    answer = acme_api.http.request(method, url, json=body)
    problem = check_problem(answer, 404, "not_found")
    assert "globex" not in str(problem).lower()


@pytest.fixture(scope="module")
def theirs(globex_api: Caller) -> tuple[str, str]:
    """Globex's conversation and its reply."""
    conversation = globex_api.begin()
    return conversation, globex_api.ask(conversation)["reply"]["id"]


# --- Both at once in one process -------------------------------------------------------------------------------
def test_two_tenants_chat_at_once_and_everything_stays_with_its_tenant(
    acme_api: Caller, globex_api: Caller, committed: None
) -> None:
    canaries = {slug: f"canary{uuid4().hex}" for slug in SLUGS}
    callers = {"acme": acme_api, "globex": globex_api}

    def chat(slug: str) -> str:
        conversation = callers[slug].begin("sim-tokens=40,tps=100")
        with callers[slug].socket(conversation) as socket:
            for turn in range(3):
                socket.say(f"{canaries[slug]} {turn}", client_id=str(turn))
                found = socket.reply()
                assert found[-1].kind == "completed"
                assert canaries[slug] in text_of(found) == found[-1].data["reply"]["content"]
                assert not any(canaries[other] in str(found) for other in SLUGS if other != slug)
        return conversation

    with ThreadPoolExecutor(8) as pool:
        chats = [(slug, pool.submit(chat, slug)) for slug in SLUGS * 4]
        conversations = [(slug, future.result()) for slug, future in chats]

    kept = where_kept(canaries)
    for slug in SLUGS:
        prefix = f"cp:{cast.state(slug).ref.id}:"
        assert kept[slug], "the event logs hold the text"
        assert all(key.startswith(prefix) for key in kept[slug]), kept[slug]
    for slug, conversation in conversations:
        for other in SLUGS:
            status = callers[other].get(f"/conversations/{conversation}").status_code
            assert status == (200 if other == slug else 404)
    check_tables(canaries)


def where_kept(canaries: dict[str, str]) -> dict[str, list[str]]:
    """The keys of all of Valkey that hold each canary, whatever type they have."""
    found: dict[str, list[str]] = {slug: [] for slug in canaries}
    with Redis.from_url(settings.EVENT_LOG_URL) as valkey:
        for key in valkey.scan_iter("*"):
            dumped = key + str(everything(valkey, key)).encode()
            for slug, canary in canaries.items():
                if canary.encode() in dumped:
                    found[slug].append(key.decode())
    return found


def everything(valkey: Any, key: bytes) -> Any:
    kind = valkey.type(key).decode()
    read = {
        "string": valkey.get,
        "list": lambda name: valkey.lrange(name, 0, -1),
        "set": valkey.smembers,
        "zset": lambda name: valkey.zrange(name, 0, -1),
        "hash": valkey.hgetall,
        "stream": lambda name: valkey.xrange(name),
    }
    return read[kind](key) if kind in read else None


def check_tables(canaries: dict[str, str]) -> None:
    """Each tenant's messages hold its own canary, and never the other's."""
    for slug in SLUGS:
        with tenancy.in_tenant(cast.state(slug).ref):
            texts = [message.content for message in Message.objects.order_by("-id")[:200]]
        for other, canary in canaries.items():
            assert any(canary in text for text in texts) == (other == slug)


# --- Inside the process ----------------------------------------------------------------------------------------
async def test_a_ticket_names_its_tenant(committed: None) -> None:
    conversation = Conversation(pk=UUID(CONVERSATION))
    for slug in SLUGS:
        tenant = await sync_to_async(cast.state)(slug)
        with tenancy.in_tenant(tenant.ref):
            ticket = await tickets.issue(conversation, None, Principal("key:x", frozenset(), None))
        redeemed = await tickets.redeem(ticket)
        assert redeemed is not None
        assert redeemed.tenant_id == tenant.ref.id
        assert await tickets.redeem(ticket) is None
