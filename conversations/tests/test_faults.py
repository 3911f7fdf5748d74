"""What dies on the way must not lose, double or change a reply. Real processes, really killed."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from celery import Celery
from django.conf import settings
from websockets.asyncio.client import ClientConnection

from chatplatform.testing.chat import Chat, Seen, chatting
from chatplatform.testing.stage import LEASE, RECONCILE, WORKERS, Stage, running_stage, until
from conversations.streaming.writer import ROUNDS

pytestmark = [pytest.mark.slow, pytest.mark.processes, pytest.mark.timeout(90)]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A platform of its own that the tests of this file break, one after the other."""
    directory: Path = tmp_path_factory.mktemp("stage")
    with running_stage(directory) as running:
        yield running


@dataclass
class Turn:
    """One reply under way, and two clients who read it."""

    chat: Chat
    socket: ClientConnection
    reply_id: str
    over_ws: Seen
    over_sse: Seen

    async def agree(self, within: float = 30.0) -> dict[str, Any]:
        """Wait for the end; all clients and the database have one text, one end. The stored reply."""
        await asyncio.gather(self.over_ws.end(within), self.over_sse.end(within))
        await asyncio.sleep(2 * RECONCILE)  # an end that came twice would be here by now
        stored = await self.chat.reply(self.reply_id)
        for seen in (self.over_ws, self.over_sse):
            assert seen.text == stored["content"]
            assert [last["reply"] for last in seen.last] == [stored]
        fresh = Seen()
        await self.chat.stream(self.reply_id, fresh)
        assert (fresh.text, len(fresh.last)) == (stored["content"], 1)
        return stored


@asynccontextmanager
async def turn(stage: Stage, *, model: str = "sim-tps=30,tokens=75") -> AsyncIterator[Turn]:
    """A reply of 2.5 s in a new conversation, read over WebSocket and over SSE."""
    over_ws, over_sse = Seen(), Seen()
    async with chatting(stage, model=model) as chat, chat.socket() as socket, asyncio.TaskGroup() as tasks:
        reply_id = await chat.ask(socket)
        readers = [
            tasks.create_task(chat.listen(socket, reply_id, over_ws)),
            tasks.create_task(chat.stream(reply_id, over_sse)),
        ]
        yield Turn(chat, socket, reply_id, over_ws, over_sse)
        for reader in readers:
            reader.cancel()


def nothing_is_left(stage: Stage) -> bool:
    """No lease, no work: every reply has its end."""
    return not stage.rows("SELECT 1 FROM conversations_work")


def other(worker: str) -> str:
    return next(name for name in WORKERS if name != worker)


# --- Workers -------------------------------------------------------------------------------------------------------
async def test_a_reply_survives_the_kill_of_its_worker(stage: Stage) -> None:
    async with turn(stage) as under_way:
        await under_way.over_ws.words(15)
        await under_way.over_sse.words(15)
        killed_at = time.monotonic()
        stage.replace(stage.worker_of(under_way.reply_id))
        await under_way.over_ws.until(lambda seen: seen.resets)
        began_again = next(event["at"] for event in under_way.over_ws.events if event["type"] == "reset")
        stored = await under_way.agree()
    assert stored["status"] == "completed" and stored["attempts"] == 2
    assert under_way.over_ws.resets == under_way.over_sse.resets == ["restart"]
    assert began_again - killed_at < LEASE + 2 * RECONCILE + 1.5


def test_it_takes_less_than_ten_seconds_with_the_settings_of_production() -> None:
    assert settings.LEASE_SECONDS + settings.RECONCILE_EVERY + 0.5 < 10


async def test_a_worker_that_was_only_paused_adds_and_settles_nothing(stage: Stage) -> None:
    async with turn(stage, model="sim-tps=30,tokens=120") as under_way:
        await under_way.over_ws.words(10)
        paused = stage.worker_of(under_way.reply_id)
        stage.signal(paused, signal.SIGSTOP)
        try:
            await under_way.over_ws.until(lambda seen: seen.resets)
            await under_way.over_ws.words(10)
        finally:
            stage.signal(paused, signal.SIGCONT)
        # From here on two attempts run side by side, and only the second may be heard.
        stored = await under_way.agree()
    assert stored["status"] == "completed" and stored["attempts"] == 2
    assert under_way.over_ws.resets == ["restart"]


async def test_a_worker_that_was_paused_for_longer_than_its_reply_leaves_no_log_without_an_end(
    stage: Stage,
) -> None:
    async with turn(stage, model="sim-tps=30,tokens=45") as under_way:
        await under_way.over_ws.words(10)
        paused = stage.worker_of(under_way.reply_id)
        stage.signal(paused, signal.SIGSTOP)
        try:
            stored = await under_way.agree()
            stage.valkey.flushall()
        finally:
            stage.signal(paused, signal.SIGCONT)
        assert stored["attempts"] == 2
        # It does not know yet, and begins the log anew.
        until(lambda: stage.valkey.keys(f"*{under_way.reply_id}*:log"), "the worker has gone on")
        late = Seen()
        reading = asyncio.create_task(under_way.chat.stream(under_way.reply_id, late))
        await late.end()
        await reading
    assert (late.text, len(late.last)) == (stored["content"], 1)


async def test_two_deliveries_of_one_job_make_one_attempt(stage: Stage) -> None:
    for worker in WORKERS:
        stage.signal(worker, signal.SIGSTOP)
    asked_before = stage.simulator.stats()["requests"]
    async with turn(stage, model="sim-tps=60,tokens=60") as under_way:
        deliver(stage, under_way.reply_id, times=6)
        for worker in WORKERS:
            stage.signal(worker, signal.SIGCONT)
        stored = await under_way.agree()
    assert stored["attempts"] == 1
    assert stage.simulator.stats()["requests"] == asked_before + 1


def deliver(stage: Stage, reply_id: str, times: int) -> None:
    """Send the job of one of Acme's replies, again and again."""
    broker = Celery(broker=stage.where.redis_url.replace("unix://", "redis+socket://", 1))
    columns = "id::text, slug, schema_name AS schema, database"
    [[tenant]] = stage.rows(
        f"SELECT row_to_json(t) FROM (SELECT {columns} FROM tenants_tenant WHERE slug = 'acme') t"
    )
    for _ in range(times):
        broker.send_task("conversations.generate_reply", [reply_id], {"tenant": tenant}, queue="cp")
    broker.close()


async def test_a_reply_whose_workers_all_die_fails_clearly(stage: Stage) -> None:
    async with turn(stage, model="sim-tps=5,tokens=400") as under_way:
        await under_way.over_ws.words(2)
        # As if this were its last attempt, and that died too.
        paused = stage.worker_of(under_way.reply_id)
        stage.rows("UPDATE conversations_work SET attempt = 3 WHERE id = %s", under_way.reply_id)
        stage.rows("UPDATE conversations_reply SET attempt = 3 WHERE message_id = %s", under_way.reply_id)
        stage.signal(paused, signal.SIGSTOP)
        await under_way.over_ws.end()
        stage.signal(paused, signal.SIGCONT)
        stored = await under_way.agree()
    assert stored["status"] == "failed"
    assert stored["error"] == {"code": "internal_error", "detail": "Given up after 3 attempts."}
    assert nothing_is_left(stage)


# --- The broker and the event log ----------------------------------------------------------------------------------
async def test_a_job_that_the_broker_lost_is_sent_again(stage: Stage) -> None:
    for worker in WORKERS:
        stage.signal(worker, signal.SIGSTOP)
    async with turn(stage) as under_way:
        stage.valkey.delete("cp")
        for worker in WORKERS:
            stage.signal(worker, signal.SIGCONT)
        stored = await under_way.agree()
    assert stored["status"] == "completed"


async def test_readers_get_the_text_so_far_when_the_log_is_flushed(stage: Stage) -> None:
    async with turn(stage) as under_way:
        await under_way.over_ws.words(20)
        await under_way.over_sse.words(20)
        stage.valkey.flushall()
        await under_way.over_ws.until(lambda seen: seen.resets)
        late = Seen()
        reading = asyncio.create_task(under_way.chat.stream(under_way.reply_id, late))
        stored = await under_way.agree()
        await reading
    assert stored["status"] == "completed" and stored["attempts"] == 1
    assert under_way.over_ws.resets == under_way.over_sse.resets == ["log_lost"]
    assert late.text == stored["content"]


async def test_messages_are_accepted_while_the_broker_is_away(stage: Stage) -> None:
    async with turn(stage, model="sim-tps=30,tokens=60") as under_way:
        await under_way.over_ws.words(15)
        stage.kill_server("valkey")
        async with chatting(stage, model="sim-tokens=20") as chat, chat.socket() as socket:
            began = time.monotonic()
            reply_id = await chat.ask(socket)
            assert time.monotonic() - began < 2
            assert (await chat.reply(reply_id))["status"] == "queued"
            async with chat.session.get(f"{stage.url}/readyz") as answer:
                assert (answer.status, await answer.json()) == (
                    200, {"status": "degraded", "database": "ok", "valkey": "degraded", "broker": "degraded"}
                )  # fmt: skip
            stage.start_server("valkey")
            seen = Seen()
            listening = asyncio.create_task(chat.listen(socket, reply_id, seen))
            reply = await seen.end()
            listening.cancel()
        stored = await under_way.agree()
    assert reply["status"] == stored["status"] == "completed"
    assert seen.text == reply["content"]
    assert stored["attempts"] == 1
    until(lambda: nothing_is_left(stage), "the last events are out")


async def test_the_last_event_is_sent_again_if_a_crash_swallowed_it(stage: Stage) -> None:
    async with turn(stage, model="sim-tps=60,tokens=30") as under_way:
        stored = await under_way.agree()
        swallow_the_end(stage, under_way.reply_id)
        late = Seen()
        reading = asyncio.create_task(under_way.chat.stream(under_way.reply_id, late))
        await late.end()
        await reading
        until(lambda: nothing_is_left(stage), "the work is done")
        # Who had seen the end before is not told again.
        assert await under_way.agree() == stored
    assert (late.text, late.resets) == (stored["content"], ["restart"])
    assert [event["type"] for event in late.events[-2:]] == ["delta", "completed"]


def swallow_the_end(stage: Stage, reply_id: str) -> None:
    """Put everything back to where it is between the settling transaction and the last event."""
    [fence] = [key.decode() for key in stage.valkey.keys(f"*{reply_id}*:attempt")]
    log = fence.replace(":attempt", ":log")
    [(last, _)] = stage.valkey.xrevrange(log, count=1)
    stage.rows(
        "INSERT INTO conversations_work SELECT * FROM jsonb_populate_record(NULL::conversations_work, "
        "(SELECT jsonb_build_object('id', %s::text, 'tenant_id', id, 'state', 'settled', 'attempt', 1, 'owner', '', "
        "'lease_expires_at', now() + interval '1 s', 'enqueued_at', now(), 'cancel_requested', false, "
        "'handed_back', 0, 'created_at', now(), 'updated_at', now()) "
        "FROM tenants_tenant WHERE slug = 'acme'))",
        reply_id,
    )
    stage.valkey.pipeline().xdel(log, last).set(fence, ROUNDS, keepttl=True).execute()


# --- The database and the web server -------------------------------------------------------------------------------
async def test_nothing_is_accepted_and_lost_while_the_database_is_away(stage: Stage) -> None:
    async with turn(stage, model="sim-tps=30,tokens=60") as under_way:
        await under_way.over_ws.words(15)
        stage.kill_server("postgres")
        try:
            status, problem = await under_way.chat.post("Are you there?")
            assert (status, problem["code"]) == (503, "database_unavailable")
            assert not stage.answers()  # /readyz
        finally:
            stage.start_server("postgres")
        stored = await under_way.agree()
        status, turn_after = await under_way.chat.post("[[sim: tokens=5 tps=0]]")
    assert stored["status"] == "completed"
    assert (status, turn_after["reply"]["status"]) == (200, "completed")
    # Texts are sealed, so messages are counted: the first, and the one that was sent when the database was back.
    said = "SELECT count(*) FROM conversations_message WHERE role = 'user' AND conversation_id = %s"
    assert stage.rows(said, under_way.chat.about["id"]) == [(2,)]


async def test_what_a_client_pours_in_meanwhile_does_not_pile_up(stage: Stage) -> None:
    postgres = stage.processes["postgres"]
    web = psutil.Process(stage.processes["daphne"].pid)
    async with chatting(stage) as chat, chat.socket() as socket:
        before = web.memory_info().rss
        postgres.send_signal(signal.SIGSTOP)
        for child in psutil.Process(postgres.pid).children(recursive=True):
            child.send_signal(signal.SIGSTOP)
        try:
            await socket.send('{"type": "message", "content": "Hello", "client_id": "1"}')
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2):
                    while True:
                        await socket.send("x" * 600_000)
            grown = web.memory_info().rss - before
        finally:
            for child in psutil.Process(postgres.pid).children(recursive=True):
                child.send_signal(signal.SIGCONT)
            postgres.send_signal(signal.SIGCONT)
    assert grown < 40_000_000


async def test_all_is_well_soon_after_the_database_is_back(stage: Stage) -> None:
    async with chatting(stage) as chat:
        at_once = [
            chat.post("[[sim: tokens=1 tps=0]]") for _ in range(40)
        ]  # so that many connections are kept
        assert {status for status, _ in await asyncio.gather(*at_once)} <= {200, 409}
        stage.kill_server("postgres")
        try:
            deadline = time.monotonic() + 8  # long enough for the pauses between two tries to grow
            while time.monotonic() < deadline:
                assert (await chat.post())[0] == 503
        finally:
            stage.start_server("postgres")
        back_at = time.monotonic()
        while (answer := await chat.post("[[sim: tokens=1 tps=0]]"))[0] == 503:
            pass
        assert answer[0] == 200 and time.monotonic() - back_at < 3


async def test_a_client_resumes_where_it_was_when_the_web_server_comes_back(stage: Stage) -> None:
    async with chatting(stage, model="sim-tps=15,tokens=75") as chat:
        seen = Seen()
        async with chat.socket() as socket:
            reply_id = await chat.ask(socket)
            listening = asyncio.create_task(chat.listen(socket, reply_id, seen))
            await seen.words(10)
            stage.replace("daphne")
            await listening  # the socket has died
        before = len(seen.events)
        await asyncio.to_thread(until, stage.answers, "the web server is back")
        async with chat.socket() as socket:
            await socket.send(f'{{"type": "resume", "reply_id": "{reply_id}", "after": "{seen.cursor}"}}')
            listening = asyncio.create_task(chat.listen(socket, reply_id, seen))
            reply = await seen.end()
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening
    assert seen.text == reply["content"] and not seen.resets
    assert len(seen.events) > before + 2
    cursors = [tuple(map(int, event["cursor"].split("-"))) for event in seen.events]
    assert cursors == sorted(set(cursors))
