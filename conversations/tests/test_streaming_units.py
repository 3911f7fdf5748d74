"""The parts of streaming by themselves, where they meet what a whole platform seldom shows."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from django.db import OperationalError
from django.test.utils import override_settings
from redis import Redis

from chatplatform import embedded, tenancy
from chatplatform.tenancy import TenantRef
from conversations import consumers, selectors, sockets
from conversations.consumers import Conversation
from conversations.services import connections, handshake
from conversations.streaming import event_log, events, reader
from conversations.streaming import writer as writing
from conversations.streaming.event_log import Append
from conversations.streaming.events import Event
from conversations.streaming.hub import Ends, hub
from conversations.streaming.writer import ReplyWriter
from conversations.vocabulary import ResetReason
from tenants.auth import standing

SOON = 3.0  # s
REPLY = {"id": "of no concern here"}
TENANT = TenantRef(UUID("01900000-0000-7000-8000-0000000000aa"), "acme", "t_acme")


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Valkey that may be broken."""
    with embedded.ensure(tmp_path_factory.mktemp("valkey"), ["valkey"]) as servers:
        yield servers.where.redis_url


@pytest.fixture
def valkey(private: str) -> Iterator[Redis]:
    """The event log's server, whole again after the test."""
    with Redis.from_url(private) as client, override_settings(EVENT_LOG_URL=private):
        with tenancy.in_tenant(TENANT):
            yield client
        client.config_set("maxmemory", 0)


def fill_up(valkey: Redis) -> None:
    """From now on, it refuses whatever takes memory."""
    valkey.config_set("maxmemory-policy", "noeviction")
    valkey.config_set("maxmemory", 1)


def appends(valkey: Redis) -> int:
    calls: int = valkey.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)
    rejected: int = valkey.info("commandstats").get("cmdstat_evalsha", {}).get("rejected_calls", 0)
    return calls + rejected


async def text_in_log(reply_id: UUID) -> bytes:
    found = await event_log.read(reply_id) or []
    return b" ".join(event.data for event in found if event.kind == "delta")


# --- The writer, when Valkey is out of memory ----------------------------------------------------------------------
async def test_a_reply_ends_although_valkey_is_out_of_memory(valkey: Redis) -> None:
    writer = ReplyWriter(uuid4(), uuid4(), 1)
    fill_up(valkey)
    writer.start(None)
    writer.add("Nobody will see this")
    async with asyncio.timeout(SOON):
        await writer.finish()
        assert await writer.end("completed", REPLY) is False


async def test_a_reply_that_is_ended_at_once_does_not_wait_for_memory(valkey: Redis) -> None:
    writer = ReplyWriter(uuid4(), uuid4(), 1)
    fill_up(valkey)
    async with asyncio.timeout(SOON):
        assert await writer.end("completed", REPLY) is False


async def test_valkey_is_left_in_peace_while_it_refuses_and_gets_everything_later(valkey: Redis) -> None:
    reply_id = uuid4()
    writer = ReplyWriter(uuid4(), reply_id, 1)
    writer.start(None)
    fill_up(valkey)
    writer.add("The first half, ")
    before = appends(valkey)
    await asyncio.sleep(2.5 * writing.PAUSE)
    assert appends(valkey) - before < 8
    valkey.config_set("maxmemory", 0)
    writer.add("and the second.")
    async with asyncio.timeout(SOON):
        await writer.finish()
        assert await writer.end("completed", REPLY) is True
    assert b"The first half, and the second." in await text_in_log(reply_id)


def test_events_from_before_the_log_was_lost_add_nothing_to_the_stored_text() -> None:
    cursor = reader.Cursor("r", events.TEXT_CURSOR)
    old, begun, new = (
        events.Event("r", f"{number}-0", kind, b"{}")
        for number, kind in ((1, "delta"), (2, "reset"), (3, "delta"))
    )
    assert [cursor.passes(event) for event in (old, begun, new)] == [False, True, True]


# --- The writer and its ticker ---------------------------------------------------------------------------------------
async def test_a_log_that_was_flushed_begins_again_with_all_of_the_text(valkey: Redis) -> None:
    reply_id = uuid4()
    writer = ReplyWriter(uuid4(), reply_id, 1)
    writer.start(None)
    for word in ("One, ", "two, ", "three"):
        writer.add(word)
        await asyncio.sleep(2 * writing.WAIT)
    valkey.flushall()
    writer.add(", four")
    async with asyncio.timeout(SOON):
        await writer.finish()
    found = await event_log.read(reply_id) or []
    assert [event.kind for event in found] == ["reset", "delta"]
    assert orjson.loads(found[1].data)["text"] == writer.text == "One, two, three, four"


async def test_a_text_is_kept_elsewhere_only_once_the_log_has_some_of_it(valkey: Redis) -> None:
    writer = ReplyWriter(uuid4(), uuid4(), 1)
    writer.add("The first text, while Valkey is away")
    safe = [
        writer.safe_to_keep
    ]  # it will come without a reset, and must not have come from PostgreSQL before
    append = writer.due()
    assert append is not None
    writer.took((await event_log.append_all([append]))[0])
    safe.append(writer.safe_to_keep)
    writer.lost()
    safe.append(writer.safe_to_keep)  # a reset comes before what is to come
    assert safe == [False, True, True]


async def test_what_another_model_said_is_forgotten_also_while_it_is_on_its_way(valkey: Redis) -> None:
    writer = ReplyWriter(uuid4(), uuid4(), 1)
    writer.add("old")
    append = writer.due()
    assert append is not None
    writer.restart(ResetReason.FAILOVER)
    writer.add("new")
    [answer] = await event_log.append_all([append])
    writer.took(answer)
    assert writer.text == "new"
    append = writer.due()
    assert append is not None
    assert [kind for kind, _ in append.events] == ["reset", "delta"]
    writer.took((await event_log.append_all([append]))[0])
    assert (writer.text, writer.behind) == ("new", False)


async def test_who_ends_a_log_later_comes_after_all_that_was_begun_again(valkey: Redis) -> None:
    reply_id, conversation_id = uuid4(), uuid4()
    writer = ReplyWriter(conversation_id, reply_id, 2)
    writer.start(ResetReason.RESTART)
    writer.add("Some, ")
    for _ in range(3):  # as if Valkey were away
        writer.lost()
    async with asyncio.timeout(SOON):
        await writer.finish()
    writer.lost()
    late = Append(writer._address, writer._number, [("completed", b"{}")], begin=True, ended=True)
    ending = ReplyWriter(conversation_id, reply_id, 2, last=True)
    ending.restart(ResetReason.RESTART)
    ending.add("Some, and the rest.")
    assert await ending.end("completed", REPLY) is True
    found = await event_log.read(reply_id) or []
    assert [event.kind for event in found[-3:]] == ["reset", "delta", "completed"]
    [answer] = await event_log.append_all([late])
    assert isinstance(answer, event_log.StaleAttempt), "the end is there once"


async def test_a_later_attempt_comes_after_the_end_that_was_written_for_an_earlier_one(valkey: Redis) -> None:
    first = ReplyWriter(uuid4(), uuid4(), 1, last=True)
    for _ in range(2 * writing.ROUNDS):
        first.lost()
    assert first._number < ReplyWriter(uuid4(), uuid4(), 2)._number
    writer = ReplyWriter(uuid4(), uuid4(), 1)
    for _ in range(2 * writing.ROUNDS):
        writer.lost()
    assert writer._number < first._number


async def test_an_append_that_was_given_up_adds_nothing_when_it_arrives_after_all(valkey: Redis) -> None:
    reply_id = uuid4()
    writer = ReplyWriter(uuid4(), reply_id, 1)
    writer.add("once")
    late = writer.due()
    assert late is not None
    writer.took(event_log.RedisError("no answer in time"))
    again = writer.due()
    assert again is not None
    writer.took((await event_log.append_all([again]))[0])
    [answer] = await event_log.append_all([late])
    assert isinstance(answer, event_log.StaleAttempt)
    assert [event.kind for event in await event_log.read(reply_id) or []] == ["reset", "delta"]


async def test_who_is_in_a_hurry_does_not_take_the_others_along(valkey: Redis) -> None:
    calm, hurried = (ReplyWriter(uuid4(), uuid4(), 1) for _ in range(2))
    ticker = writing.Ticker()
    ticker._task.cancel()
    ticker.mark(calm)
    ticker.mark(hurried, at_once=True)
    assert ticker._take() == [hurried]
    assert ticker._take() == []
    async with asyncio.timeout(SOON):
        await ticker._moment()
    assert ticker._take() == [calm]
    assert ticker._next == math.inf


async def test_many_appends_have_an_answer_each_in_their_order(valkey: Redis) -> None:
    valkey.script_flush()
    known, newer = ([event_log.address(uuid4(), uuid4()) for _ in range(3)] for _ in range(2))
    event = [events.delta("x", "Grüße")]
    assert all(await event_log.append_all([event_log.Append(to, 2, event, begin=True) for to in known]))
    answers = await event_log.append_all(
        [event_log.Append(to, 1, event, begin=True) for to in known]
        + [event_log.Append(to, 1, event) for to in newer]
        + [event_log.Append(to, 2, event) for to in known]
    )
    assert [type(answer).__name__ for answer in answers] == ["StaleAttempt"] * 3 + ["LogLost"] * 3 + [
        "str"
    ] * 3


async def test_a_valkey_that_hangs_is_away_and_its_connection_is_closed(
    valkey: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log, "TIMEOUT", 0.7)
    append = event_log.Append(event_log.address(uuid4(), uuid4()), 1, [events.delta("x", "y")], begin=True)
    assert await event_log.append_all([append])
    valkey.client_pause(2500)
    with pytest.raises(event_log.RedisError):
        await event_log.append_all([append])
    valkey.client_unpause()
    later = event_log.Append(event_log.address(uuid4(), uuid4()), 1, [events.delta("x", "z")], begin=True)
    [answer] = await event_log.append_all([later])
    assert await event_log.newest(later.address.reply_id) is not None
    assert isinstance(answer, str), "an answer of its own, not the late one of another"


# --- Many readers --------------------------------------------------------------------------------------------------
async def test_a_reader_is_at_the_end_only_when_the_last_event_is_out(valkey: Redis) -> None:
    reply_id = uuid4()
    writer = ReplyWriter(uuid4(), reply_id, 1)
    writer.start(None)
    writer.add("All of it")
    await writer.finish()
    newest = await event_log.newest(reply_id)
    assert newest is not None
    assert await reader.at_end(reply_id, newest.cursor) is False
    await writer.end("completed", REPLY)
    assert await reader.at_end(reply_id, newest.cursor) is False
    last = await event_log.newest(reply_id)
    assert last is not None
    assert await reader.at_end(reply_id, last.cursor) is True


async def test_more_readers_than_connections_wait_for_each_other(valkey: Redis) -> None:
    before = len(valkey.client_list())
    assert await asyncio.gather(*(event_log.read(uuid4()) for _ in range(200))) == [None] * 200
    assert len(valkey.client_list()) - before <= 64


# --- The hub -------------------------------------------------------------------------------------------------------
async def test_who_gives_up_while_joining_leaves_nothing_behind(valkey: Redis) -> None:
    conversation = uuid4()
    woken = asyncio.Event()
    joining = asyncio.create_task(hub().subscribe(conversation, woken.set))
    await asyncio.sleep(0)  # it waits for the confirmation
    joining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await joining
    assert not hub()._readers
    async with asyncio.timeout(SOON):
        _, subscription = await hub().subscribe(conversation, woken.set)
        await event_log.publish(conversation, "message", b"{}")
        item = None
        while item is None:
            await woken.wait()
            woken.clear()
            item = subscription.take() if subscription.waiting else None
    assert getattr(item, "kind", None) == "message"


async def hears(conversation: UUID, *, while_joined: Callable[[], Awaitable[None]] | None = None) -> bool:
    """Whether somebody who joins now hears what is published then; or is told to look for it."""
    woken = asyncio.Event()
    name, subscription = await hub().subscribe(conversation, woken.set)
    if while_joined is not None:
        await while_joined()
    await event_log.publish(conversation, "message", b"{}")
    try:
        async with asyncio.timeout(SOON):
            await woken.wait()
    finally:
        hub().leave(name, subscription)
    return True


async def subscribed(valkey: Redis, conversation: UUID) -> bool:
    return bool(await asyncio.to_thread(valkey.pubsub_channels, event_log.channel(conversation)))


async def until(ask: Callable[[], Awaitable[bool]], wanted: bool) -> None:
    async with asyncio.timeout(SOON):
        while await ask() is not wanted:  # noqa: ASYNC110 - the answer is another process's
            await asyncio.sleep(0.01)


async def test_a_subscription_outlives_its_last_reader_but_not_for_long(
    valkey: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conversations.streaming.hub.KEPT_FOR", 0.5)
    conversation = uuid4()
    for _ in range(3):
        assert await hears(conversation)
        assert await subscribed(valkey, conversation)
    await until(lambda: subscribed(valkey, conversation), False)
    assert not hub()._confirmed and not hub()._left
    assert await hears(conversation)


async def test_what_was_left_is_joined_anew_after_valkey_dropped_the_connection(valkey: Redis) -> None:
    left, joined = uuid4(), uuid4()

    async def drop() -> None:
        await asyncio.to_thread(valkey.client_kill_filter, _type="pubsub")
        await until(lambda: subscribed(valkey, joined), False)
        await until(lambda: subscribed(valkey, joined), True)

    assert await hears(left)
    assert await hears(joined, while_joined=drop)
    assert not await subscribed(valkey, left)
    assert await hears(left)


async def test_who_waits_for_the_end_is_not_woken_before(valkey: Redis) -> None:
    woken: list[str] = []
    ends = Ends(lambda: woken.append("woken"))
    ends.push(Event("r", "1-0", "delta", b"{}"))
    assert not woken and not ends.waiting
    ends.push(None)  # something may have been missed: it has to look
    ends.push(Event("r", "2-0", "completed", b"{}"))
    assert len(woken) == 2
    assert ends.take() is None
    assert ends.take() == Event("r", "2-0", "completed", b"{}")


# --- A socket ------------------------------------------------------------------------------------------------------
class Server:
    """Holds a socket open as uvicorn does: whoever writes after the close is told so with an exception."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[dict[str, Any]] = []
        self.accepted = asyncio.Event()
        self.incoming.put_nowait({"type": "websocket.connect"})

    async def send(self, message: dict[str, Any]) -> None:
        if self.closes:
            raise RuntimeError("Unexpected ASGI message, after sending 'websocket.close'.")
        self.sent.append(message)
        self.accepted.set()

    @property
    def closes(self) -> list[int]:
        return [message["code"] for message in self.sent if message["type"] == "websocket.close"]

    def say(self, text: str) -> None:
        self.incoming.put_nowait({"type": "websocket.receive", "text": text})

    async def serve(self, consumer: Conversation) -> asyncio.Task[None]:
        scope = {"type": "websocket", "url_route": {"kwargs": {"conversation_id": uuid4()}}}
        serving = asyncio.create_task(consumer(scope, self.incoming.get, self.send))
        async with asyncio.timeout(SOON):
            await self.accepted.wait()
        assert consumer in sockets.opened
        return serving


@pytest.fixture
def admitted(valkey: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every handshake succeeds."""

    class Someone:
        class tenant:
            ref = TENANT

        credential, contact_id, rests_on, expires_at = "key:x", None, ("key:x",), None

    async def admit(*_: Any) -> Any:
        return Someone

    monkeypatch.setattr(handshake, "admit", admit)


def is_forgotten(consumer: Conversation) -> bool:
    cancelled = consumer.sender is None or bool(consumer.sender.cancelling())
    return consumer not in sockets.opened and not hub()._readers and cancelled


async def test_a_burst_closes_the_socket_once(admitted: None) -> None:
    server, consumer = Server(), Conversation()
    serving = await server.serve(consumer)
    for _ in range(consumers.BURST + 50):
        server.say('{"type":"ack"}')
    server.incoming.put_nowait({"type": "websocket.disconnect", "code": consumers.TOO_MANY})
    async with asyncio.timeout(SOON):
        await serving
    assert server.closes == [consumers.TOO_MANY]
    assert is_forgotten(consumer)


@pytest.mark.parametrize("cancelled", [True, False])
async def test_a_socket_that_ends_without_a_goodbye_leaves_nothing_behind(
    admitted: None, cancelled: bool
) -> None:
    server, consumer = Server(), Conversation()
    serving = await server.serve(consumer)
    if cancelled:
        serving.cancel()
    else:
        server.incoming.put_nowait({"type": "websocket.unheard_of"})
    with pytest.raises((asyncio.CancelledError, AttributeError)):
        await serving
    assert is_forgotten(consumer)


async def test_all_sockets_of_a_suspended_tenant_are_closed_although_one_fails(
    admitted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers, open_ones = [Server() for _ in range(3)], [Conversation() for _ in range(3)]
    serving = [await server.serve(consumer) for server, consumer in zip(servers, open_ones, strict=True)]
    monkeypatch.setattr(standing, "gone", lambda things: things)

    async def broken(code: int) -> None:
        raise ValueError(code)

    first = next(iter(sockets.opened))
    monkeypatch.setattr(first, "close", broken)
    await sockets._look()
    closes = [
        server.closes for server, consumer in zip(servers, open_ones, strict=True) if consumer is not first
    ]
    assert closes == [[sockets.NOT_ALLOWED]] * 2
    for task in serving:
        task.cancel()
    await asyncio.gather(*serving, return_exceptions=True)


async def test_a_reader_outlives_an_outage_of_both_servers(
    valkey: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(reply_id: UUID) -> None:
        raise OperationalError("couldn't get a connection")

    monkeypatch.setattr(selectors, "reply_or_none", away)
    cursor = reader.Cursor(str(uuid4()), "5-0")  # whose log is gone
    assert await reader.replay(cursor) == []
    assert (cursor.value, cursor.behind) == ("5-0", True)  # so that it looks again


async def test_who_keeps_connections_known_ends_although_its_cancellation_was_taken_for_a_time_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    telling = asyncio.Event()

    async def tell() -> None:
        if telling.is_set():
            return
        telling.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise event_log.RedisError from None

    monkeypatch.setattr(connections, "EVERY", 0.01)
    monkeypatch.setattr(connections, "_tell", tell)
    keeping = asyncio.create_task(connections.keep_known())
    async with asyncio.timeout(SOON):
        await telling.wait()
        keeping.cancel()
        await keeping
