"""Generates one reply in a worker: lease, prompt, models, event log, settlement.

Runs in the worker's shared event loop; database work goes to its few threads.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import structlog

from chatplatform import jobs
from chatplatform.api.problem import DATABASE_GONE, Code, Problem
from chatplatform.llm.types import ChatMessage
from conversations.gateway import gateway
from conversations.models import Message, Reply
from conversations.rag import embedders
from conversations.services import leases, settlement
from conversations.services.asking import Turn, ask, ended, estimated, failed, prepare
from conversations.services.lease_keeper import Hold, holding
from conversations.services.settlement import Outcome
from conversations.streaming.writer import ReplyWriter
from conversations.vocabulary import ReplyStatus, ResetReason

log = structlog.get_logger("conversations.generation")
CHECKPOINT_EVERY = 2.0  # s
# Seconds between two tries. If another worker takes over meanwhile, ours is fenced out.
SETTLE_TRIES, SETTLE_PAUSE = 20, 0.5


async def generate(reply_id: UUID) -> None:
    """Take the lease on a reply of the current tenant and bring it to its end, or leave if somebody else is at it."""
    lease = await jobs.in_thread(leases.acquire, reply_id)
    if lease is None:
        log.info("nothing_to_generate", reply=str(reply_id))
        return
    attempt, cancelled = lease
    with holding(reply_id) as hold:
        if cancelled:
            hold.cancel()
        outcome, writer = await _attempt(reply_id, attempt, hold)
        await writer.finish()
        if writer.stale.is_set() or (hold.stop.is_set() and not hold.cancelled):
            log.warning("attempt_superseded", reply=str(reply_id), attempt=attempt)
            return
        reply = await _settle(reply_id, attempt, outcome)
    if reply is not None and await writer.end(outcome.status, reply):
        await jobs.in_thread(leases.done, reply_id)
    log.info(
        "reply_ended",
        reply=str(reply_id),
        status=str(outcome.status),
        attempt=attempt,
        model=str(outcome.model),
    )


async def _settle(reply_id: UUID, attempt: int, outcome: Outcome) -> dict[str, Any] | None:
    """Write the end of the reply, also if PostgreSQL restarts just now: an answer was paid for only once."""
    for _ in range(SETTLE_TRIES):
        try:
            return await jobs.in_thread(settlement.settle, reply_id, attempt, outcome)
        except DATABASE_GONE as error:
            log.warning("settlement_waits", reply=str(reply_id), error=type(error).__name__)
            await asyncio.sleep(SETTLE_PAUSE)
    return await jobs.in_thread(settlement.settle, reply_id, attempt, outcome)


async def _attempt(reply_id: UUID, attempt: int, hold: Hold) -> tuple[Outcome, ReplyWriter]:
    """One attempt, whatever becomes of it."""
    reply, said = await jobs.in_thread(_load, reply_id)
    writer = ReplyWriter(reply.conversation_id, reply_id, attempt)
    writer.start(ResetReason.RESTART if attempt > 1 else None)
    try:
        if hold.cancelled:
            return Outcome(ReplyStatus.CANCELLED, finish_reason="cancelled"), writer
        turn = await prepare(reply, said, writer)
        async with _checkpoints(turn):
            return await _ask_until_stopped(turn, hold), writer
    except Problem as problem:
        return failed(str(problem.code), problem.detail), writer
    except DATABASE_GONE:
        raise  # not the reply's fault: its lease runs out, and it is begun again when the database is back
    except Exception:
        log.exception("generation_failed", reply=str(reply_id), attempt=attempt)
        return failed(Code.INTERNAL_ERROR, "Something went wrong here.", text=writer.text), writer


def _load(reply_id: UUID) -> tuple[Reply, list[ChatMessage]]:
    """The reply with its conversation, and what was said up to its question, oldest first."""
    reply = Reply.objects.select_related("conversation", "user_message").get(pk=reply_id)
    rows = Message.objects.filter(conversation=reply.conversation_id, id__lte=reply.user_message_id)
    newest = rows.order_by("-id").only("role", "content")[:20]
    said = [
        ChatMessage("user" if row.role == "user" else "assistant", row.content)
        for row in newest
        if row.content
    ]
    return reply, said[::-1]


async def _ask_until_stopped(turn: Turn, hold: Hold) -> Outcome:
    """The outcome of asking the models, or of being stopped in the middle of it."""
    asking = asyncio.create_task(ask(turn))
    stopped = asyncio.create_task(hold.stop.wait())
    stale = asyncio.create_task(turn.writer.stale.wait())
    try:
        await asyncio.wait({asking, stopped, stale}, return_when=asyncio.FIRST_COMPLETED)
        if asking.done():
            return await asking
    finally:
        for task in (asking, stopped, stale):
            task.cancel()
        await asyncio.gather(asking, stopped, stale, return_exceptions=True)
    usage = turn.spent + estimated(turn)
    return ended(turn, ReplyStatus.CANCELLED, "cancelled", usage)


@asynccontextmanager
async def _checkpoints(turn: Turn) -> AsyncIterator[None]:
    """Keeps the text so far in PostgreSQL every few seconds."""

    async def keep() -> None:
        kept = ""
        while True:
            await asyncio.sleep(CHECKPOINT_EVERY)
            text = turn.writer.text
            if text != kept:
                with contextlib.suppress(Exception):  # the next one, or the settlement, makes up for it
                    await jobs.in_thread(settlement.checkpoint, turn.reply_id, turn.attempt, text)
                kept = text

    task = asyncio.create_task(keep())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _warm_up() -> None:
    """Load the SDKs and the embedding model at the worker's start: it takes seconds that no visitor should wait."""
    await asyncio.to_thread(gateway().warm_up)
    await asyncio.to_thread(embedders.warm_up)


jobs.on_loop_start(_warm_up)
