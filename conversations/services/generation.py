"""Generates one reply in a worker: lease, prompt, models, event log, settlement.

Runs in the worker's shared event loop; database work goes to its few threads.
"""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import structlog

from chatplatform import garbage, jobs
from chatplatform.api.problem import DATABASE_GONE, Code, Problem
from conversations.gateway import gateway
from conversations.models import Reply
from conversations.rag import embedders
from conversations.services import attempts, embedding, leases, reconciler, settlement, statements
from conversations.services.asking import Turn, ask, ended, failed, prepare
from conversations.services.attempts import ProviderCall
from conversations.services.lease_keeper import Hold, Stop, holding, over
from conversations.services.settlement import Outcome
from conversations.services.statements import Begun
from conversations.streaming.writer import ReplyWriter
from conversations.vocabulary import ReplyStatus, ResetReason
from tenants.secrets import UnknownKey

log = structlog.get_logger("conversations.generation")
# Seconds between two tries, for two minutes: a database may fail over to another one, and what was called is on record
# nowhere else. If another worker takes over meanwhile, ours is fenced out, and its calls are booked all the same.
SETTLE_TRIES, SETTLE_PAUSE = 240, 0.5
HANDED_BACK = ReplyStatus.QUEUED  # how an attempt ends that another one will follow


async def generate(reply_id: UUID) -> bool:
    """Take the lease on a reply of the current tenant and bring it to its end, or leave if somebody else is at it.

    False if this worker was stopped before the end: then the job must be sent again.
    """
    try:
        begun = await statements.begin(reply_id, leases.OWNER)
    except UnknownKey:  # its end user was erased just now
        begun = None
    if begun is None:
        log.info("nothing_to_generate", reply=str(reply_id))
        return True
    reply = begun.reply
    writer = ReplyWriter(reply.conversation_id, reply_id, reply.attempt)
    with holding(reply_id, writer, reply.conversation.contact_id) as hold:
        if begun.cancelled:
            hold.stop(Stop.CANCELLED)
        outcome = await _attempt(begun, writer, hold)
        if _superseded(writer, hold) or outcome.status == HANDED_BACK:
            await writer.finish()
            return await _leave(reply, writer, hold, outcome)
        settled = await _settle(reply, outcome)
        if settled is None:  # another attempt has taken over just now, or the end user was erased
            await writer.finish()
            await _keep_calls(reply, outcome)
            await _end_again(reply)
    # What was not shown by now goes out with the last event.
    if settled is not None and await writer.end(outcome.status, settled):
        over(reply_id)
    log.info(
        "reply_ended",
        reply=str(reply_id),
        status=str(outcome.status),
        attempt=reply.attempt,
        model=str(outcome.model),
    )
    return True


def _superseded(writer: ReplyWriter, hold: Hold) -> bool:
    return writer.stale.is_set() or hold.stopped is Stop.LOST


async def _leave(reply: Reply, writer: ReplyWriter, hold: Hold, outcome: Outcome) -> bool:
    """The end of an attempt that does not end its reply; as `generate`."""
    superseded = _superseded(writer, hold)
    if superseded:
        log.warning("attempt_superseded", reply=str(reply.pk), attempt=reply.attempt)
    try:
        # If it was the database that failed, the lease runs out: that paces the attempts, and counts them.
        if hold.stopped is Stop.HANDED_BACK and not superseded:
            await jobs.in_thread(statements.hand_back, reply, writer.text)
            log.info("reply_handed_back", reply=str(reply.pk), attempt=reply.attempt)
            return False
    except UnknownKey:  # the end user was erased: nobody goes on with it
        return True
    finally:
        await _keep_calls(reply, outcome)
    if superseded:
        await _end_again(reply)
    return True


async def _settle(reply: Reply, outcome: Outcome) -> dict[str, Any] | None:
    """Write the end of the reply, also if PostgreSQL restarts just now: an answer was paid for only once."""
    for _ in range(SETTLE_TRIES):
        try:
            return await settlement.settle(reply, outcome)
        except UnknownKey:  # the end user was erased: there is no reply that could be settled
            return None
        except DATABASE_GONE as error:
            log.warning("settlement_waits", reply=str(reply.pk), error=type(error).__name__)
            await asyncio.sleep(SETTLE_PAUSE)
    await _keep_calls(reply, outcome)  # which says what is lost, if it is
    return await settlement.settle(reply, outcome)


async def _keep_calls(reply: Reply, outcome: Outcome) -> None:
    """Book the calls of an attempt that settles nothing: they were made, and may be billed."""
    try:
        await jobs.in_thread(attempts.record, reply, outcome.calls)
    except Exception as error:  # the database is away, say; the reply is in other hands all the same
        calls = [f"{call.model} {call.outcome} {call.charged}" for call in outcome.calls]
        log.warning("calls_not_recorded", reply=str(reply.pk), calls=calls, error=type(error).__name__)


async def _end_again(reply: Reply) -> None:
    """This attempt may have begun a log anew that was flushed after the reply's end: nobody else would end that."""
    try:
        await jobs.in_thread(reconciler.end_again, reply.pk)
    except Exception as error:
        log.warning("not_ended_again", reply=str(reply.pk), error=type(error).__name__)


async def _attempt(begun: Begun, writer: ReplyWriter, hold: Hold) -> Outcome:
    """One attempt, whatever becomes of it."""
    attempt = begun.reply.attempt
    made: list[ProviderCall] = []
    writer.start(ResetReason.RESTART if attempt > 1 else None)
    try:
        if hold.stopped is Stop.CANCELLED:
            return Outcome(ReplyStatus.CANCELLED, finish_reason="cancelled")
        turn = await prepare(begun.reply, begun.said, writer, made, begun.knows, begun.held)
        return await _ask_until_stopped(turn, hold)
    except Problem as problem:
        return failed(str(problem.code), problem.detail, made)
    except DATABASE_GONE as error:  # not the reply's fault: it is begun again when the database is back
        log.warning(
            "attempt_cut_short", reply=str(begun.reply.pk), attempt=attempt, error=type(error).__name__
        )
        return Outcome(HANDED_BACK, calls=made)
    except Exception:
        log.exception("generation_failed", reply=str(begun.reply.pk), attempt=attempt)
        return failed(Code.INTERNAL_ERROR, "Something went wrong here.", made, writer.text)


async def _ask_until_stopped(turn: Turn, hold: Hold) -> Outcome:
    """The outcome of asking the models, or of being stopped in the middle of it."""
    if hold.stopped is None:
        hold.asking = asyncio.create_task(ask(turn))
        await asyncio.wait([hold.asking])
        if not hold.asking.cancelled():
            return hold.asking.result()
    if hold.stopped is Stop.HANDED_BACK:
        return ended(turn, HANDED_BACK, "")
    return ended(turn, ReplyStatus.CANCELLED, "cancelled")


async def _warm_up() -> None:
    """Load the SDKs and the embedding model at the worker's start: it takes seconds that no visitor should wait."""
    await asyncio.to_thread(gateway().warm_up)
    await asyncio.to_thread(embedders.warm_up)
    await asyncio.to_thread(embedding.warn_if_unpriced)
    garbage.collect_less()


jobs.on_warm_up(_warm_up)
