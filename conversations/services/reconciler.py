"""Finds replies that nobody is at and has them generated; re-sends last events that a crash swallowed.

Runs every few seconds in every worker, over the shared work table; safe to run twice at once. Not by beat: a job of
beat's needs beat and the broker, while a worker is there whenever a reply can be generated at all. So it takes at most
a lease and a pause between two looks until a dead worker's reply is sent to another one.
"""

from __future__ import annotations

import asyncio
import random
from uuid import UUID

import structlog
from django.conf import settings
from django.db import transaction

from chatplatform import jobs, tenancy
from chatplatform.api.problem import DATABASE_GONE, Code
from conversations import selectors
from conversations.models import Reply, Work
from conversations.models.work import WorkState
from conversations.services import holds, leases, settlement
from conversations.services.settlement import Outcome
from conversations.services.turns import GENERATE
from conversations.streaming.writer import ReplyWriter
from conversations.vocabulary import ReplyStatus, ResetReason

log = structlog.get_logger("conversations.reconciler")


async def keep_reconciling() -> None:
    """Runs for ever in the worker's loop."""
    # Workers that start together look in turn.
    await asyncio.sleep(random.uniform(0, settings.RECONCILE_EVERY))
    while True:
        try:
            await jobs.in_thread(reconcile)
        except Exception as error:
            log.warning("reconciling_waits", error=type(error).__name__)
            # The database was away, and all leases with it: let those who are alive renew theirs first.
            await asyncio.sleep(settings.LEASE_SECONDS)
        await asyncio.sleep(settings.RECONCILE_EVERY)


def reconcile() -> int:
    """One look over the work table; returns how many rows needed something."""
    found = leases.orphans(backlog=jobs.are_waiting())
    unsent = []
    for reply_id, tenant, state, attempts in found:
        try:
            with tenancy.in_tenant(tenant):
                if not _recover(reply_id, state, attempts):
                    unsent.append(reply_id)
        except DATABASE_GONE as error:
            log.warning("not_reconciled", reply=str(reply_id), error=type(error).__name__)
        except Exception:  # one tenant's trouble must not keep the others' replies waiting
            log.exception("not_reconciled", reply=str(reply_id), slug=tenant.slug)
        else:
            log.info("reconciled", reply=str(reply_id), state=state, attempts=attempts)
    if unsent:
        leases.not_sent(unsent)
    return len(found)


def _recover(reply_id: UUID, state: str, attempts: int) -> bool:
    """False if a job was to be sent, and the broker is away."""
    if state == WorkState.SETTLED:
        announce_end(reply_id)
    elif attempts >= settings.MAX_ATTEMPTS:
        _give_up(reply_id)
    else:
        return jobs.enqueue(GENERATE, str(reply_id), tenant=tenancy.current_tenant())
    return True


def announce_end(reply_id: UUID) -> None:
    """Send the last event of a settled reply, with its whole text before it, and take it off the work table."""
    reply = selectors.reply_or_none(reply_id)
    if reply is None or jobs.run_in_loop(_announce_end(reply)):
        leases.done([reply_id])


def end_again(reply_id: UUID) -> None:
    """See to it that the event log of a reply has its last event, if the reply has ended."""
    reply = selectors.reply_or_none(reply_id)
    if reply is not None and not reply.running:
        jobs.run_in_loop(_announce_end(reply))


async def _announce_end(reply: Reply) -> bool:
    writer = ReplyWriter(reply.conversation_id, reply.pk, reply.attempt, last=True)
    writer.restart(ResetReason.RESTART)
    writer.add(reply.message.content)
    return await writer.end(reply.status, selectors.reply_as_json(reply))


def _give_up(reply_id: UUID) -> None:
    """A reply whose attempts all died: fail it clearly, instead of killing workers for ever."""
    with transaction.atomic():
        # First the reply, then its work row, as whoever begins or settles it does.
        rows = Reply.objects.select_for_update(of=("self",)).select_related("message")
        reply = rows.filter(pk=reply_id).first()
        with tenancy.in_platform():
            work = Work.objects.select_for_update().filter(id=reply_id, lease_expires_at=None).first()
        if work is None or reply is None:
            return
        text = reply.message.content
        outcome = Outcome(
            ReplyStatus.FAILED,
            text,
            "error",
            error_code=str(Code.INTERNAL_ERROR),
            error_detail=f"Given up after {reply.attempt} attempts.",
        )
        holds.book_lost(reply)
        jobs.at_once(settlement.settle(reply, outcome))
    announce_end(reply_id)
