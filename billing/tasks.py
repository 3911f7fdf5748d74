"""The Celery edge of billing."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from celery import shared_task

from billing.payments import NotTaken
from billing.services import payments, plans, thresholds
from chatplatform.jobs import PlatformTask, TenantTask


@shared_task(
    name="billing.hand_over",
    base=PlatformTask,
    autoretry_for=(NotTaken,),
    max_retries=5,
    retry_backoff=5,
    retry_backoff_max=300,
)
def hand_over(document_id: str) -> None:
    """Send an invoice to the payment provider; what fails is tried again, at last by `hand_over_waiting`."""
    payments.hand_over(UUID(document_id))


@shared_task(name="billing.hand_over_waiting", base=PlatformTask)
def hand_over_waiting() -> None:
    """Send what should have been sent long ago."""
    payments.hand_over_waiting()


@shared_task(name="billing.ask_about_payments", base=PlatformTask)
def ask_about_payments() -> None:
    """Find out about payments of which no word came."""
    payments.ask_about_open()


@shared_task(name="billing.follow_plans", base=PlatformTask)
def follow_plans() -> None:
    """Note the tiers of the plans that have begun."""
    plans.follow_all()


@shared_task(
    name="billing.mail_threshold",
    base=TenantTask,
    autoretry_for=(OSError,),
    max_retries=5,
    retry_backoff=True,
)
def mail_threshold(*told: Any) -> None:
    """Mail that so much of a limit is spent."""
    thresholds.mail(*told)


@shared_task(name="billing.tell_refusal", base=TenantTask)
def tell_refusal(*told: Any) -> None:
    """Tell that a limit is reached, by which a call was refused."""
    thresholds.tell_once(thresholds.read(*told))
