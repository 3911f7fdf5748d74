"""The Celery edge of conversations."""

from __future__ import annotations

from uuid import UUID

from celery import shared_task
from celery.exceptions import Reject

from chatplatform import jobs
from chatplatform.jobs import PlatformTask, TenantTask
from conversations.services import conversations, generation, holds, reconciler, retention, words


@shared_task(name="conversations.generate_reply", base=TenantTask)
async def generate_reply(reply_id: str) -> None:
    """Generate one reply, unless somebody else is at it. Where this worker stops, its job goes back to the broker."""
    if not await generation.generate(UUID(reply_id)):
        raise Reject("This worker stops.", requeue=True)


@shared_task(
    name="conversations.mail_escalation",
    base=TenantTask,
    autoretry_for=(OSError,),
    max_retries=5,
    retry_backoff=True,
)
def mail_escalation(conversation_id: str) -> None:
    """Mail the tenant's escalation address."""
    conversations.mail_escalation(UUID(conversation_id))


@shared_task(name="conversations.return_dead_holds", base=PlatformTask)
def return_dead_holds() -> None:
    """Give back what dead attempts hold of budgets."""
    holds.return_all_dead()


@shared_task(name="conversations.index_words", base=PlatformTask)
def index_words() -> None:
    """Let staff find what was said lately."""
    words.catch_up_everywhere()


@shared_task(name="conversations.expire_conversations", base=PlatformTask)
def expire_conversations() -> None:
    """Delete what tenants do not keep any longer."""
    retention.expire_everywhere()


jobs.on_loop_start(reconciler.keep_reconciling)  # in every worker, not as a job of beat's
