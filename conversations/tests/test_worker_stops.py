"""A worker that is told to stop, as every deploy does, loses no reply and no other job. Real processes."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from celery import Celery
from redis.exceptions import ConnectionError

from chatplatform.testing.chat import Seen, chatting
from chatplatform.testing.stage import WORKERS, Stage, running_stage, until
from conversations.tests.test_faults import nothing_is_left, turn

pytestmark = [pytest.mark.slow, pytest.mark.processes, pytest.mark.timeout(90)]
EXIT = 1.0 + 2.0  # s that a worker may take to end after its grace, and what a busy machine adds


PATIENT = {"WORKER_GRACE_SECONDS": "20", "LEASE_SECONDS": "10", "WORKER_THREADS": "8"}
BRIEF = {**PATIENT, "WORKER_GRACE_SECONDS": "0.3"}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    directory: Path = tmp_path_factory.mktemp("stage")
    with running_stage(directory, environment=PATIENT) as running:
        yield running


def two_workers(stage: Stage, settings: dict[str, str]) -> None:
    """Have two workers with these settings. Those that have them go on: to start one takes seconds."""
    others = not settings.items() <= stage.environment.items()
    stage.environment.update(settings)
    for name in WORKERS:
        if others or stage.processes[name].poll() is not None:
            stage.replace(name)
    until(lambda: listening(stage, 2), "both workers listen")


def broker_of(stage: Stage) -> Celery:
    return Celery(broker=stage.where.redis_url.replace("unix://", "redis+socket://", 1))


def listening(stage: Stage, count: int) -> bool:
    """Whether so many workers answer over the broker."""
    with broker_of(stage) as broker:
        try:
            return len(broker.control.ping(timeout=1, limit=count) or ()) == count
        except ConnectionError:  # one from before the broker was restarted
            return False


async def stopped(stage: Stage, worker: str) -> int:
    """Wait for the end of a worker; its exit status."""
    process: subprocess.Popen[bytes] = stage.processes[worker]
    return await asyncio.to_thread(process.wait, 30)


async def test_what_ends_in_time_ends_where_it_was(stage: Stage) -> None:
    two_workers(stage, PATIENT)
    async with turn(stage) as under_way:
        await under_way.over_ws.words(15)
        worker = stage.worker_of(under_way.reply_id)
        stage.signal(worker, signal.SIGTERM)
        async with chatting(stage) as meanwhile:  # the other worker takes all that is new
            began = time.monotonic()
            for _ in range(4):
                status, turn_of = await meanwhile.post("[[sim: tokens=1 tps=0]]")
                assert (status, turn_of["reply"]["attempts"]) == (200, 1)
            assert time.monotonic() - began < 8  # none waits for a lease to run out
        assert stage.processes[worker].poll() is None
        stored = await under_way.agree()
        assert await stopped(stage, worker) == 0
    assert (stored["status"], stored["attempts"]) == ("completed", 1)
    assert under_way.over_ws.resets == []


async def test_a_second_signal_hurries(stage: Stage) -> None:
    two_workers(stage, PATIENT)
    async with turn(stage) as under_way:
        await under_way.over_ws.words(5)
        worker = stage.worker_of(under_way.reply_id)
        stage.signal(worker, signal.SIGTERM)
        await asyncio.sleep(0.2)
        stage.signal(worker, signal.SIGTERM)
        told_at = time.monotonic()
        assert await stopped(stage, worker) == 0
        assert time.monotonic() - told_at < EXIT
        stored = await under_way.agree()
    assert (stored["status"], stored["attempts"]) == ("completed", 2)


async def test_what_does_not_end_in_time_another_worker_goes_on_with(stage: Stage) -> None:
    two_workers(stage, BRIEF)
    async with turn(stage) as under_way:
        await under_way.over_ws.words(15)
        worker = stage.worker_of(under_way.reply_id)
        stage.signal(worker, signal.SIGTERM)
        told_at = time.monotonic()
        assert await stopped(stage, worker) == 0
        assert time.monotonic() - told_at < 0.3 + EXIT
        await under_way.over_ws.until(lambda seen: seen.resets)
        began_again = next(event["at"] for event in under_way.over_ws.events if event["type"] == "reset")
        stored = await under_way.agree()
    assert began_again - told_at < 0.3 + 3.0  # long before the lease would have run out
    assert (stored["status"], stored["attempts"]) == ("completed", 2)
    assert under_way.over_ws.resets == under_way.over_sse.resets == ["restart"]
    called = "SELECT attempt, outcome, estimated FROM billing_ledgerentry WHERE reply = %s ORDER BY 1"
    assert stage.rows(called, under_way.reply_id) == [(1, "cancelled", True), (2, "completed", False)]


async def test_jobs_that_wait_for_a_thread_go_back(stage: Stage) -> None:
    two_workers(stage, {**BRIEF, "WORKER_THREADS": "1"})
    stage.stop("worker-2")
    with psycopg.connect(stage.where.database_admin_url) as blocker:
        # The first job waits for this lock, the others for its thread.
        blocker.execute("LOCK TABLE tenants_platformidempotencyrecord")
        with broker_of(stage) as broker:
            sent = sorted(
                broker.send_task("tenants.expire_idempotency_records", queue="cp").id for _ in range(3)
            )
        until(lambda: found(sent, stage.valkey.hvals("unacked")) == sent, "the worker has all three")
        stage.signal("worker", signal.SIGTERM)
        assert await stopped(stage, "worker") == 0
        assert found(sent, stage.valkey.lrange("cp", 0, -1)) == sent
        assert found(sent, stage.valkey.hvals("unacked")) == []
    stage.start("worker-2")
    until(
        lambda: not found(sent, stage.valkey.lrange("cp", 0, -1) + stage.valkey.hvals("unacked")),
        "another worker does them",
    )


def found(sent: list[str], messages: list[bytes]) -> list[str]:
    """Which of the jobs are among the messages, each as often as it is; beat's own come in between."""
    return sorted(job for job in sent for message in messages if job.encode() in message)


async def test_nothing_is_lost_if_the_broker_is_away_meanwhile(stage: Stage) -> None:
    two_workers(stage, {**BRIEF, "LEASE_SECONDS": "4"})
    async with turn(stage, model="sim-tps=30,tokens=120") as under_way:
        await under_way.over_ws.words(10)
        worker = stage.worker_of(under_way.reply_id)
        stage.kill_server("valkey")
        try:
            stage.signal(worker, signal.SIGTERM)
            told_at = time.monotonic()
            await stopped(stage, worker)
            assert time.monotonic() - told_at < 0.3 + EXIT
        finally:
            stage.start_server("valkey")
        stored = await under_way.agree()
    assert (stored["status"], stored["attempts"]) == ("completed", 2)
    until(lambda: nothing_is_left(stage), "the last event is out")


async def test_a_reply_that_is_read_late_is_whole(stage: Stage) -> None:
    """What was kept at the hand-back is what a reader gets whose event log is gone."""
    two_workers(stage, {**BRIEF, "LEASE_SECONDS": "4"})
    async with turn(stage, model="sim-tps=30,tokens=90") as under_way:
        await under_way.over_ws.words(20)
        for worker in WORKERS:
            stage.signal(worker, signal.SIGTERM)
        for worker in WORKERS:
            await stopped(stage, worker)
        kept = (await under_way.chat.reply(under_way.reply_id))["content"]
        assert len(kept.split()) >= 20 and under_way.over_ws.text.startswith(kept[:40])
        for worker in WORKERS:
            stage.start(worker)
        late = Seen()
        reading = asyncio.create_task(under_way.chat.stream(under_way.reply_id, late))
        stored = await under_way.agree()
        await reading
    assert late.text == stored["content"]
