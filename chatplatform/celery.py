"""The Celery application: `celery -A chatplatform worker`."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery.signals import setup_logging, worker_init

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatplatform.settings")

app = Celery("chatplatform")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["tenants", "conversations"])


@setup_logging.connect
def keep_our_logging(**kwargs: Any) -> None:
    """Celery would set up its own; Django's settings have done so already. Connecting is what stops it."""


@worker_init.connect
def start_loop(**kwargs: Any) -> None:
    """The event loop, its lease keeper and the SDKs are there before the first reply asks for them."""
    from chatplatform import jobs

    jobs.start_loop()
